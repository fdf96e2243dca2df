"""The forward pass of a population as a compiled program: its numbers, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from mtl.benchmarks import Task
from mtl.models import HardSharing
from mtl.population.compiled import CompiledForward
from mtl.train import Cohort, Member, Settings
from mtl.train.loop import train_to_the_end
from tests.population.problem import Normed, Pictures, Three, ThreeMissing, close

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),  # of torch's own imports
]
SETTINGS = {"steps": 12, "lr": 1e-2, "batch_size": 16}


@pytest.fixture
def programs(monkeypatch):
    """The programs that would be compiled; they run as they were traced."""
    made = []

    def compiled(program, dynamic):
        assert dynamic is False
        made.append(program)
        return program

    monkeypatch.setattr(torch, "compile", compiled)
    return made


def cohort(benchmark, strategy, asked=True, members=3, tell=None, **settings):
    chosen = [Member(strategy, seed, {"lr": 0.01 * (1 + seed)}) for seed in range(members)]
    settings = Settings(**SETTINGS | settings, compile=asked)
    return Cohort(benchmark, benchmark.load(), chosen, settings, tell=tell or [].append)


def ended(made):
    train_to_the_end(made)
    return made.results()


def assert_same(found, plain, tolerance=1e-9):
    for one, other in zip(found, plain, strict=True):
        assert one.status == other.status == "done" and one.skipped == other.skipped
        for key, curve in other.history.items():
            close(one.history[key], curve, tolerance)


@pytest.mark.parametrize("strategy", ["equal", "gradnorm", "graddrop", "famo", "auto-lambda"])
@pytest.mark.parametrize("benchmark", [Three, Normed, Pictures])
def test_a_program_has_the_numbers_of_the_population(programs, benchmark, strategy):
    assert_same(ended(cohort(benchmark(), strategy)), ended(cohort(benchmark(), strategy, asked=False)))
    assert len(programs) == 1


def test_members_of_other_hyperparameters_and_copies_go_on_in_the_same_program(programs):
    runs = []
    for asked in (True, False):
        made = cohort(Normed(), "gradnorm:alpha=1", asked)
        made.advance(4)
        made.exploit({2: 0})
        made.replace({1: Member("gradnorm:alpha=0.5", 1, {"lr": 0.02, "l2": 1e-3})})
        runs.append(ended(made))
    assert_same(*runs)
    assert len(programs) == 1


def test_fewer_members_are_another_program(programs):
    made = cohort(Three(), "equal")
    made.advance(2)
    made.keep([0, 2])
    made.advance(2)
    assert len(programs) == 2


def test_with_missing_labels_members_are_trained_one_at_a_time_and_that_is_said():
    told = []
    cohort(ThreeMissing(), "equal", tell=told.append)
    assert told == ["compile: labels are missing, so runs with equal are trained one at a time"]


class Frozen(Three):
    """Half of what the trunk gives has no gradient."""

    name = "frozen"

    def model(self, tasks, inputs):  # noqa: ARG002
        class Half(nn.Linear):
            def forward(self, inputs):
                with torch.no_grad():
                    first = super().forward(inputs)
                return torch.cat([first[:, :4], super().forward(inputs)[:, 4:]], 1)

        return HardSharing(nn.Sequential(Half(6, 8), nn.ReLU()), {t.name: nn.Linear(8, t.outputs) for t in tasks})


def test_a_gradient_that_is_lost_on_the_way_is_refused(programs):
    with pytest.raises(ValueError, match=r"^compile: the compiled program of a population has other losses or gr"):
        cohort(Frozen(), "equal").advance(1)
    assert len(programs) == 1


class Counting(Three):
    """A loss that is another one from its tenth call on."""

    name = "counting"

    def __init__(self) -> None:
        calls = []

        def loss(prediction, target):
            calls.append(None)
            return (prediction.reshape(-1) - target).square().mean() * (1 + (len(calls) > 9))

        self.tasks = (Three.tasks[0], Task("product", loss, Three.tasks[1].metrics), Three.tasks[2])


def test_what_python_counts_is_noticed(programs):
    with pytest.raises(ValueError, match=r"^compile: .* as where this counts its calls"):
        cohort(Counting(), "equal", steps=40).advance(40)
    assert len(programs) == 1


def test_what_cannot_be_traced_is_one_line():
    def losses(rows):
        return [rows.sum(1) * int(rows.max())], {}

    with pytest.raises(
        ValueError, match=r"^compile: a population cannot be compiled: .*; train without --compile$"
    ) as told:
        CompiledForward(1e-3)(losses, torch.ones(2, 3, requires_grad=True))
    assert "\n" not in str(told.value)


def test_batches_of_ever_new_shapes_are_refused(programs):
    forward, rows = CompiledForward(1e-3), torch.ones(2, 3, requires_grad=True)
    for length in range(1, 9):
        forward(lambda rows, batch: ([rows.sum(1) * batch.sum()], {}), rows, torch.ones(2, length))
    with pytest.raises(ValueError, match=r"^compile: a population was compiled for inputs of 8 shapes, and here is an"):
        forward(lambda rows, batch: ([rows.sum(1) * batch.sum()], {}), rows, torch.ones(2, 9))
    assert len(programs) == 8


@pytest.mark.slow
@pytest.mark.parametrize(("benchmark", "strategy"), [(Normed, "gradnorm"), (Pictures, "graddrop"), (Three, "famo")])
def test_a_compiled_population_has_the_numbers_of_the_plain_one(benchmark, strategy):
    """Also where it is saved in between and another goes on."""
    first, second = (cohort(benchmark(), strategy) for _ in range(2))
    first.advance(5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    found, resumed, plain = ended(first), ended(second), ended(cohort(benchmark(), strategy, asked=False))
    assert_same(found, plain, 1e-8)
    assert_same(resumed, found, 0)
