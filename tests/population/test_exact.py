"""A member is the single run: same parameters, batches, noise, schedule, selection and records."""

import pytest
import torch

from mtl.strategies import REGISTRY
from mtl.train import Cohort, Member, Settings
from mtl.train.optimizers import SIDE_BY_SIDE
from tests.population.problem import Pictures, Three, ThreeMissing, assert_is_the_single_run

CHAINS = [
    "uncertainty+gradnorm",
    "uncertainty+[mgda+every:n=3]",
    "famo+every:n=4",
    "moco+ema:beta=0.5",
    "graddrop+ema:beta=0.5",
    "auxilearn+every:n=5",
    "static:weights=1/2/3+nash+clip:low=0.1",
    "sdmgrad+normalize",
]


def check(benchmark, members, **settings):
    splits, settings = benchmark.load(), Settings.of(benchmark.recipe, settings)
    told = []
    cohort = Cohort(benchmark, splits, members, settings, tell=told.append)
    cohort.advance(10_000)
    assert not told and all(cohort.finished())
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, settings)


SOLVERS = {"epo", "pmgda", "wc-mgda"}  # hundreds of solver iterations a step: all 100 steps among the slow tests
CHANGES = {"lr": 3e-2, "weight_decay": 1e-3}


@pytest.mark.parametrize("spec", [*REGISTRY, *CHAINS])
def test_a_member_is_the_single_run(spec):
    steps = 20 if spec in SOLVERS else 100
    check(Three(), [Member(spec, 1), Member(spec, 2, CHANGES)], steps=steps)


@pytest.mark.slow
@pytest.mark.parametrize("spec", sorted(SOLVERS))
def test_a_member_is_the_single_run_for_100_steps(spec):
    check(Three(), [Member(spec, 1), Member(spec, 2, CHANGES)])


@pytest.mark.parametrize("spec", ["equal", "famo", "mgda", "graddrop", "auto-lambda", "auxilearn", "moco", "sdmgrad"])
def test_tasks_absent_from_a_batch_are_masked_for_the_members_that_lack_them(spec):
    check(ThreeMissing(), [Member(spec, seed) for seed in range(3)])


@pytest.mark.parametrize("spec", ["equal", "uncertainty", "mgda"])
def test_heads_can_have_their_own_gradients(spec):
    check(Three(), [Member(spec, seed) for seed in (1, 2)], head_weighting="own", scale="raw", steps=30)
    check(ThreeMissing(), [Member(spec, seed) for seed in (1, 2)], head_weighting="own", steps=30)


@pytest.mark.parametrize("optimizer", SIDE_BY_SIDE)
def test_each_optimizer_with_schedule_clipping_and_l1(optimizer):
    members = [
        Member("equal", 1, {"lr": 1e-2, "schedule": "cosine", "warmup": 5, "clip": 0.3}),
        Member("equal", 2, {"lr": 3e-3, "weight_decay": 1e-2, "momentum": 0.5, "l1": 1e-3}),
        Member("equal", 3, {"schedule": "linear"}),
    ]
    check(Three(), members, optimizer=optimizer, steps=60)


@pytest.mark.parametrize("spec", ["equal", "famo", "auto-lambda"])
def test_dropout_noise_and_mixup_draw_as_in_the_single_run(spec):
    members = [
        Member(spec, 1, {"dropout": 0.2, "noise": 0.1, "mixup": 0.4}),
        Member(spec, 2, {"dropout": 0.5, "mixup": 0.2}),
        Member(spec, 3, {"noise": 0.3}),
    ]
    check(Three(), members, steps=40)


@pytest.mark.parametrize("model", ["conv:channels=2,width=8", "conv:channels=2,width=8,batch_norm=true"])
@pytest.mark.parametrize("spec", ["famo", "mgda", "auto-lambda", "auxilearn"])
def test_convolutions_and_running_statistics(spec, model):
    check(Pictures(), [Member(spec, 1), Member(spec, 2, {"lr": 2e-2})], model=model)


@pytest.mark.parametrize("spec", ["famo", "mgda", "auto-lambda"])
def test_convolutions_of_a_member_that_is_alone(spec):
    check(Pictures(), [Member(spec, 1)], model="conv:channels=2,width=8,batch_norm=true", steps=20)


def test_losses_have_parameters_of_their_own():
    settings, benchmark = Settings.of(Three.recipe, {"steps": 40}), Three()
    splits = benchmark.load()
    members = [Member("uncertainty", 1, {}, {"square": {"delta": delta}}) for delta in (0.3, 2.0)]
    members.append(Member("uncertainty", 1, {}, {"sign": {"label_smoothing": 0.2}}))
    cohort = Cohort(benchmark, splits, members, settings)
    cohort.advance(40)
    results = cohort.results()
    for member, result in zip(members, results, strict=True):
        alone = Cohort(benchmark, splits, [member], settings, vectorised=False)
        alone.advance(40)
        torch.testing.assert_close(
            torch.tensor(result.history["train_loss"]), torch.tensor(alone.results()[0].history["train_loss"])
        )
    assert len({str(result.history["train_loss"]) for result in results}) == 3


def test_runs_of_unlike_length_and_patience_end_each_in_its_time():
    members = [
        Member("equal", 1, {"steps": 40}),
        Member("equal", 2, {"steps": 70, "patience": 1, "lr": 0.3}),
        Member("equal", 3),
        Member("equal", 4, {"lr": 1e6, "nan_limit": 3, "optimizer": "sgd", "momentum": 0.0}),
    ]
    check(Three(), members)
