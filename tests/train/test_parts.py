"""Penalties, clipping by value, and settings of heads: against a plain loop, and in a population."""

import pytest
import torch
from torch import nn

from mtl.benchmarks import Task
from mtl.losses import MSE, CrossEntropy
from mtl.models import make_model
from mtl.train import Cohort, Member, Settings, train
from mtl.train.check import check_model
from mtl.train.parts import optimizer_groups
from tests.population.problem import Three, ThreeMissing, assert_is_the_single_run
from tests.train.plain_loop import trained

pytestmark = pytest.mark.usefixtures("float64")

STEPS = {"steps": 12, "batch_size": 16, "lr": 0.05, "optimizer": "sgd", "momentum": 0.5}


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)


def sgd_apart(model):
    """Heads at a rate and a decay of their own."""
    return torch.optim.SGD(
        [
            {"params": list(model.trunk.parameters())},
            {"params": list(model.heads.parameters()), "lr": 0.2, "weight_decay": 0.0},
        ],
        lr=0.05,
        momentum=0.5,
        weight_decay=0.1,
    )


def size(parameters, power):
    return sum(parameter.abs().pow(power).sum() for parameter in parameters)


CASES = {
    "l2": ({"l2": 0.02}, sgd, lambda model: 0.02 * size(model.parameters(), 2), None),
    "elastic net": (
        {"l1": 0.01, "l2": 0.02},
        sgd,
        lambda model: 0.01 * size(model.parameters(), 1) + 0.02 * size(model.parameters(), 2),
        None,
    ),
    "l2 of heads alone": ({"head_l2": 0.1}, sgd, lambda model: 0.1 * size(model.heads.parameters(), 2), None),
    "l1 of the trunk alone": (
        {"l1": 0.02, "head_l1": 0.0},
        sgd,
        lambda model: 0.02 * size(model.trunk.parameters(), 1),
        None,
    ),
    "clip_value": (
        {"clip_value": 0.05},
        sgd,
        None,
        lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.05),
    ),
    "rates of heads": ({"weight_decay": 0.1, "head_lr": 0.2, "head_weight_decay": 0.0}, sgd_apart, None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_a_plain_loop(case):
    given, optimizer, penalty, adjust = CASES[case]
    benchmark, splits, settings = Three(), Three().load(), Settings(**STEPS, **given)
    found = train(benchmark, splits, "equal", settings, seed=4).weights
    wanted = trained(benchmark, splits, settings, 4, optimizer, penalty, adjust)
    usual = trained(benchmark, splits, settings, 4, sgd)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0)
    assert any(float((usual[name] - value).abs().max()) > 1e-3 for name, value in wanted.items())


MEMBERS = [
    {"l2": 0.01, "clip_value": 0.1},
    {"l1": 1e-3, "head_l1": 0.0, "head_lr": 0.05},
    {"head_l2": 0.02, "weight_decay": 0.01, "head_weight_decay": 0.0, "schedule": "cosine", "clip": 0.5},
    {},
]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
@pytest.mark.parametrize("benchmark", [Three(), ThreeMissing()], ids=lambda benchmark: benchmark.name)
def test_a_member_is_the_single_run(benchmark, optimizer):
    settings, splits, told = Settings(steps=30, batch_size=16, lr=1e-2, optimizer=optimizer), benchmark.load(), []
    members = [Member("famo", seed, own) for seed, own in enumerate(MEMBERS)]
    cohort = Cohort(benchmark, splits, members, settings, tell=told.append)
    cohort.advance(30)
    assert not told and len(cohort._groups.all) == 1
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, settings)


def test_what_one_member_of_a_joined_group_asks_for_is_done():
    """One begins without clipping and penalties, the other joins it with both."""
    settings, splits = Settings(steps=30, batch_size=16, lr=1e-2, optimizer="sgd"), Three().load()
    members = [Member("equal", 0), Member("equal", 1, {"clip_value": 0.01, "l2": 0.5, "head_lr": 0.1})]
    cohort = Cohort(Three(), splits, [members[0]], settings)
    cohort.add([members[1]])
    assert len(cohort._groups.all) == 1
    cohort.advance(30)
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, Three(), splits, member, settings)


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_member_that_gets_a_rate_for_its_heads_keeps_the_state_of_its_optimizer(vectorised):
    """As if the whole run had been made with it, but for the steps before."""
    settings, splits = Settings(steps=20, batch_size=16, optimizer="sgd", lr=0.02), Three().load()
    found = []
    for own in ({}, {"head_lr": 0.02}):
        cohort = Cohort(Three(), splits, [Member("equal", 3)], settings, vectorised=vectorised)
        cohort.advance(10)
        cohort.replace({0: Member("equal", 3, own)})
        cohort.advance(10)
        found.append(cohort.results()[0].metrics)
    assert found[0] == found[1]


def test_the_optimizer_has_no_more_groups_than_are_asked_for():
    model = make_model("hard-sharing", "mlp:width=4", {"a": 1, "b": 2}, torch.zeros(2, 3))
    (group,) = optimizer_groups(model, Settings(lr=0.1))
    assert group["params"] == [*model.parameters()] and group["lr"] == 0.1
    trunk, heads = optimizer_groups(model, Settings(lr=0.1, head_lr=0.2))
    assert trunk["params"] == [*model.trunk.parameters()] and heads["params"] == [*model.heads.parameters()]


def test_a_decay_of_heads_is_refused_where_the_optimizer_has_none():
    with pytest.raises(ValueError, match=r"optimizer 'rprop': it has no weight decay, and head_weight_decay is 0\.1"):
        Settings(optimizer="rprop", head_weight_decay=0.1)


class Classes(Three):
    """Two classification tasks, one of which is smoothed already, and a regression."""

    tasks = (
        Task("sign", CrossEntropy(), Three.tasks[0].metrics, 2),
        Task("product", MSE(), Three.tasks[1].metrics),
    )


def test_label_smoothing_is_of_classification_losses_without_their_own():
    splits, settings = Classes().load(), Settings(**STEPS, label_smoothing=0.2)
    found = train(Classes(), splits, "equal", settings, seed=1).weights
    losses = {"sign": nn.CrossEntropyLoss(label_smoothing=0.2)}
    wanted = trained(Classes(), splits, settings, 1, sgd, losses=losses)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0)
    own = [Member("equal", 1, {"label_smoothing": share}, {"sign": {"label_smoothing": 0.3}}) for share in (0.0, 0.2)]
    one, other = Cohort(Classes(), splits, own, Settings(**STEPS))._groups.all[0].runs
    assert one.job.tasks[0].loss == other.job.tasks[0].loss == CrossEntropy(label_smoothing=0.3)
    assert other.job.tasks[1].loss == MSE()


def test_label_smoothing_differs_by_member():
    settings, splits = Settings(steps=20, batch_size=16, lr=1e-2), Classes().load()
    members = [Member("equal", 1, {"label_smoothing": share}) for share in (0.0, 0.1, 0.3)]
    cohort = Cohort(Classes(), splits, members, settings)
    cohort.advance(20)
    assert len(cohort._groups.all) == 1
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, Classes(), splits, member, settings)


def test_label_smoothing_without_classes_is_one_line():
    class Numbers(Three):
        tasks = (Three.tasks[1],)

    with pytest.raises(ValueError, match=r"label_smoothing=0\.1: no loss has label smoothing, .*product: mse"):
        check_model(Numbers(), Numbers().load(), Settings(label_smoothing=0.1))
