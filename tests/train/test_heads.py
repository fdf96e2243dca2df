"""What single tasks' heads are trained with: rate, decay, penalties and dropout, alone and in a population."""

import pytest
import torch
from torch import nn

from mtl.models import ARCHITECTURES, HardSharing, make_model
from mtl.search.plan import check_searched_models
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.search.tune import of_one_task, tuned_space
from mtl.strategies import make
from mtl.study.setup import StudySetup
from mtl.study.variant import make_variants
from mtl.train import Cohort, Member, Settings, train
from mtl.train.check import check_model
from mtl.train.heads import read_heads, write_heads
from mtl.train.parts import optimizer_groups
from tests.population.problem import Three, ThreeMissing, assert_is_the_single_run
from tests.train.plain_loop import trained

pytestmark = pytest.mark.usefixtures("float64")

STEPS = {"steps": 12, "batch_size": 16, "lr": 0.05, "optimizer": "sgd", "momentum": 0.5}


def setup_of(benchmark, **given):
    return StudySetup(benchmark, benchmark.load(), Settings(**given), torch.device("cpu"))


def test_equal_to_a_plain_loop():
    def sgd(model):
        groups = [
            {"params": list(model.trunk.parameters())},
            {"params": list(model.heads["sign"].parameters()), "lr": 0.2},
            {"params": list(model.heads["product"].parameters()), "lr": 0.1, "weight_decay": 0.0},
            {"params": list(model.heads["square"].parameters()), "lr": 0.1},
        ]
        return torch.optim.SGD(groups, lr=0.05, momentum=0.5, weight_decay=0.1)

    def penalty(model):
        return 0.3 * sum(parameter.pow(2).sum() for parameter in model.heads["square"].parameters())

    heads = "sign:lr=0.2+product:weight_decay=0+square:l2=0.3"
    settings = Settings(**STEPS, weight_decay=0.1, head_lr=0.1, heads=heads)
    splits = Three().load()
    found = train(Three(), splits, "equal", settings, seed=4).weights
    for name, value in trained(Three(), splits, settings, 4, sgd, penalty).items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0)


class Dropped(Three):
    """Dropout before one head, written into the model."""

    def model(self, tasks, inputs):
        model = super().model(tasks, inputs)
        heads = dict(zip((task.name for task in tasks), model.heads.values(), strict=True))
        return HardSharing(model.trunk, {**heads, "product": nn.Sequential(nn.Dropout(0.4), heads["product"])})


def test_dropout_of_a_head_is_that_of_its_features():
    splits, settings = Three().load(), Settings(**STEPS)
    wanted = train(Dropped(), splits, "equal", settings, seed=2)
    found = train(Three(), splits, "equal", settings.over({"heads.product.dropout": 0.4}), seed=2)
    assert found.metrics == wanted.metrics and found.history == wanted.history
    assert found.metrics != train(Three(), splits, "equal", settings, seed=2).metrics
    assert found.weights.keys() == Three().model(Three.tasks, splits.train.first(2)).state_dict().keys()


MEMBERS = [
    {"heads.sign.lr": 0.1, "heads.product.dropout": 0.2},
    {"heads.product.lr": 1e-3, "heads.product.weight_decay": 0.1, "heads.product.dropout": 0.5, "dropout": 0.1},
    {"head_lr": 0.05, "heads.square.l1": 0.01, "heads.product.dropout": 0.3, "dropout": 0.3},
    {"heads.product.dropout": 0.4},
]


@pytest.mark.parametrize("benchmark", [Three(), ThreeMissing()], ids=lambda benchmark: benchmark.name)
def test_a_member_is_the_single_run(benchmark):
    settings, splits, told = Settings(steps=20, batch_size=16, lr=1e-2), benchmark.load(), []
    members = [Member("famo", seed, own) for seed, own in enumerate(MEMBERS)]
    cohort = Cohort(benchmark, splits, members, settings, tell=told.append)
    cohort.advance(20)
    assert not told and sorted(len(group.ids) for group in cohort._groups.all) == [2, 2]
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, settings)


def test_a_member_gets_the_rate_of_another_kind_in_its_place():
    """As if its heads had dropped so much from the start, but for the steps before."""
    settings, splits = Settings(steps=20, batch_size=16, heads="sign:dropout=0.1"), Three().load()
    found = []
    for changed in ({}, {"heads.sign.dropout": 0.6, "heads.square.lr": 0.3}):
        cohort = Cohort(Three(), splits, [Member("equal", 3, changed)], settings)
        cohort.replace({0: Member("equal", 3, {"heads.sign.dropout": 0.6, "heads.square.lr": 0.3})})
        cohort.advance(20)
        found.append(cohort.results()[0].metrics)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_a_tasks_own_is_what_its_loss_alone_reaches(name):
    torch.manual_seed(0)
    inputs, outputs = torch.randn(4, 6), {"a.b": 1, "type": 2, "c": 1}
    model = make_model(name, "mlp:width=8,depth=3", outputs, inputs)
    predictions, names = model(inputs), dict(model.named_parameters())
    own = {task: {id(parameter) for parameter in model.own_parameters(task)} for task in outputs}
    for task, others in own.items():
        assert {id(parameter) for parameter in model.head(task).parameters()} <= others
        rest = sum(predictions[other].sum() for other in outputs if other != task)
        reached = torch.autograd.grad(rest, [*names.values()], retain_graph=True, allow_unused=True)
        for (which, parameter), gradient in zip(names.items(), reached, strict=True):
            unseen = gradient is None or not bool(gradient.any())
            assert not (id(parameter) in others and not unseen), (task, which)
    shared = {id(parameter) for parameter in model.shared_parameters()}
    assert shared.union(*own.values()) == {id(parameter) for parameter in names.values()}
    assert sum(map(len, own.values())) + len(shared) == len(names)


def test_a_spec_is_read_back_and_written_in_one_way():
    heads = {"a+b": {"lr": 0.1, "dropout": 0.25}, "50%:": {"weight_decay": 0.0}}
    assert read_heads(write_heads(heads)) == heads
    assert Settings(heads="b:dropout=0.20, lr=1e-1 + a:l1=0").heads == "b:lr=0.1,dropout=0.2+a:l1=0"
    settings = Settings(heads="a:lr=0.1,l2=1").over({"heads.a.lr": None, "heads.b.c.dropout": 0.5})
    assert settings.of_heads == {"a": {"l2": 1.0}, "b.c": {"dropout": 0.5}}
    assert Settings(heads="a:lr=0.1").over({"heads.a.lr": None}) == Settings()


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ("sign", r"'sign' is not TASK:KEY=VALUE"),
        ("sign:momentum=1", r"a head has no 'momentum'"),
        ("sign:lr=fast", r"lr='fast' cannot be read as float"),
        ("sign:lr=1+sign:l1=1", r"it has task 'sign' twice"),
        ("sign:lr=1,lr=2", r"it has lr twice"),
        ("sign:lr=-1", r"heads\.sign\.lr=-1\.0 must be at least 0"),
        ("sign:dropout=1", r"heads\.sign\.dropout=1\.0 must be in \[0, 0\.95\]"),
    ],
)
def test_a_spec_that_cannot_be_is_one_line(heads, said):
    with pytest.raises(ValueError, match=said) as caught:
        Settings(heads=heads)
    assert "\n" not in str(caught.value)


def test_a_decay_is_refused_where_the_optimizer_has_none():
    with pytest.raises(ValueError, match=r"'rprop': it has no weight decay, and heads\.sign\.weight_decay is 0\.1"):
        Settings(optimizer="rprop", heads="sign:weight_decay=0.1")


class WithoutHeads(Three):
    """Its model is a module of its own, with all tasks in one layer."""

    def model(self, tasks, inputs):  # noqa: ARG002
        return Together()


class Together(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(6, 4), nn.Linear(4, 4)

    def forward(self, inputs):
        found = self.last(self.layer(inputs))
        return {"sign": found[:, :2], "product": found[:, 2:3], "square": found[:, 3:]}

    def shared_parameters(self):
        return self.layer.parameters()


@pytest.mark.parametrize("given", [{"heads": "sign:lr=1"}, {"head_dropout": 0.2}])
def test_a_model_without_heads_of_its_own_is_one_line(given):
    with pytest.raises(ValueError, match=r"does not say which of its modules is a task's head"):
        check_model(WithoutHeads(), Three().load(), Settings(**given))
    check_model(WithoutHeads(), Three().load(), Settings(head_lr=0.1))
    (name, value) = ("heads.sign.lr", "0:0.1") if "heads" in given else ("head_dropout", "0:0.5")
    space = build_space(WithoutHeads(), ["equal"], read_options([f"{name}={value}"]))
    with pytest.raises(ValueError, match=r"does not say which of its modules is a task's head"):
        check_searched_models(space, setup_of(WithoutHeads()))


def test_an_unknown_task_is_one_line():
    said = r"heads=sing:lr=1: there is no task 'sing': did you mean sign\?"
    for attempt in (
        lambda: check_model(Three(), Three().load(), Settings(heads="sing:lr=1")),
        lambda: train(Three(), Three().load(), "equal", Settings(steps=1, heads="sing:lr=1")),
    ):
        with pytest.raises(ValueError, match=said):
            attempt()
    with pytest.raises(ValueError, match=r"--search: unknown parameter 'heads\.sing\.lr': did you mean heads\.sign"):
        build_space(Three(), ["equal"], read_options(["heads.sing.lr=0.1,1"]))
    with pytest.raises(ValueError, match=r"--vary heads\.sing\.lr: no task's head has this value: did you mean"):
        make_variants({"heads.sing.lr": ("0.1", "1")}, [make("equal")], Three(), ())


def test_a_search_gives_each_member_its_own():
    space = build_space(Three(), ["equal"], read_options(["heads.sign.lr=1e-3:1e-1", "heads.product.dropout=0.1,none"]))
    assert space.describe()["heads.sign.lr"] == "0.001:0.1:log"
    assert space.describe()["heads.product.dropout"] == "0.1,None"
    with pytest.raises(ValueError, match=r"--search: heads\.sign\.dropout=0:2: 2 must be in \[0, 0\.95\]"):
        build_space(Three(), ["equal"], read_options(["heads.sign.dropout=0:2"]))


def test_variants_differ_in_it_and_what_is_varied_is_not_tuned():
    variants = make_variants({"heads.sign.lr": ("none", "0.1")}, [make("equal")], Three(), ())
    usual, other = variants
    assert usual.usual(Three(), Settings()) and not other.usual(Three(), Settings())
    assert other.label == "heads.sign.lr=0.1" and other.over(Settings(heads="square:l1=1")).of_heads == {
        "square": {"l1": 1.0},
        "sign": {"lr": 0.1},
    }
    assert tuned_space(Three(), other).constants["heads.sign.lr"] == 0.1


def test_a_single_task_is_trained_with_its_own_head_alone():
    setting = setup_of(Three(), **STEPS, heads="sign:lr=0.3+square:dropout=0.5")
    alone = of_one_task(setting, "sign")
    assert alone.settings.heads == "sign:lr=0.3"
    check_model(alone.benchmark, alone.splits, alone.settings)
    tasks = [task for task in Three.tasks if task.name == "sign"]
    train(Three(), setting.splits, "equal", setting.settings, tasks=tasks)  # as a comparison trains its baselines
    model = make_model("hard-sharing", "mlp:width=4", {"sign": 1}, torch.zeros(2, 3))
    rates = [group["lr"] for group in optimizer_groups(model, setting.settings)]
    assert rates == [0.05, 0.3]
