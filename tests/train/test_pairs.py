"""Settings of training two at a time, with strategies of every kind and models that normalise and drop.

`docs/training.md` has the table; what stands there is tried here.
"""

import copy
import datetime
import functools
import itertools
import math
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.losses import MSE, CrossEntropy, Huber
from mtl.metrics import accuracy, mae
from mtl.models import HardSharing
from mtl.train import Cohort, Member, Settings, train
from mtl.train.loop import train_to_the_end
from mtl.train.processes import Processes
from tests.population.problem import close

PAGE = Path(__file__).parents[2] / "docs" / "training.md"

#: One strategy for each way to measure: losses, Gramian, Jacobian twice, losses after the step, validation gradients.
STRATEGIES = ["equal", "gradnorm", "pcgrad", "graddrop", "famo", "auto-lambda"]

FEATURES = {
    "amp bf16": {"amp": "bf16"},
    "amp fp16": {"amp": "fp16"},
    "accumulate": {"accumulate": 2},
    "ema": {"ema": 0.9},
    "swa": {"swa": 0.5},
    "warmup": {"warmup": 4},
    "checkpoint-minutes": {"checkpoint_minutes": 0.0},
    "compile": {"compile": True},
}
#: What cannot go together, and the line that says so.
REFUSED = {("ema", "swa"): r"^training: ema=0\.9 and swa=0\.5 are both averages of weights; give one$"}
#: These set the same option.
SAME_OPTION = {("amp bf16", "amp fp16")}
ALLOWED = [pair for pair in itertools.combinations(FEATURES, 2) if pair not in {*REFUSED, *SAME_OPTION}]
#: What is compiled takes seconds, and has tests of its own.
PAIRS, COMPILED = ([pair for pair in ALLOWED if ("compile" in pair) == asked] for asked in (False, True))
QUICK = [feature for feature in FEATURES if feature != "compile"]

#: What is trained one at a time, and the line that says so.
ALONE = {
    "amp fp16": "amp=fp16: each run has a scale of its own, and those with {} are trained one at a time",
    "accumulate": "accumulate=2: runs with {} are trained one at a time",
}

STEPS, KILLED_AFTER = 9, 6  # of epochs of four steps: the last checkpoint before the end is that of step four


class Pictures(Benchmark):
    """A class and two numbers from pictures of 4 x 4; the model normalises each example by itself."""

    name = "pictures"
    tasks = (
        Task("sign", CrossEntropy(), (accuracy,), 2),
        Task("mean", MSE(), (mae,)),
        Task("square", Huber(), (mae,)),
    )

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(*(self._split(size, generator) for size in (64, 16, 16)))

    @staticmethod
    def _split(size: int, generator: torch.Generator) -> Split:
        x = torch.randn(size, 1, 4, 4, generator=generator)
        means = x.flatten(1).mean(1)
        return Split(x, {"sign": (means > 0).long(), "mean": means, "square": x[:, 0, 0, 0] ** 2 - 1})

    def model(self, tasks, inputs):  # noqa: ARG002
        return HardSharing(nn.Sequential(*self.layers()), {task.name: nn.Linear(8, task.outputs) for task in tasks})

    def layers(self) -> list[nn.Module]:
        return [nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 8)]


class Dropping(Pictures):
    """An MLP with layer normalisation and dropout."""

    name = "dropping"

    def layers(self):
        return [*super().layers(), nn.Dropout(0.2)]


class Normed(Pictures):
    """A convolution with batch normalisation."""

    name = "normed"

    def layers(self):
        # A bias would be lost in the normalisation, and what rounding makes of it differs.
        return [nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 8)]


MODELS = {"dropping": Dropping, "normed": Normed, "plain": Pictures}


class Killed(Exception):
    """Stands for the end of a process: what is not in a file is lost."""


def settings_with(features):
    changes = {name: value for feature in features for name, value in FEATURES[feature].items()}
    return Settings(**{"steps": STEPS, "lr": 1e-2, "batch_size": 16} | changes)


def made(model, strategy, features=(), path=None, killed_after=None):
    def progress(step, _length):
        if step == killed_after:
            raise Killed

    settings = settings_with(features)
    benchmark = MODELS[model]()
    return train(
        benchmark, benchmark.load(), strategy, settings, seed=1, checkpoint_path=path, progress=progress, tell=print
    )


@functools.cache
def whole(model, strategy, *features):
    """The run that nothing disturbs."""
    return made(model, strategy, features)


def same(one, other):
    """Whether two runs have the same numbers everywhere, bit for bit."""
    return (
        one.history == other.history
        and one.metrics == other.metrics
        and one.skipped == other.skipped
        and all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    )


def trajectory(run):
    """What training showed: the losses and weights of its steps."""
    return [run.history[name] for name in ("train_loss", "weights")]


def averaged(found, without, _others, _case):
    """Training goes on as without; what is evaluated is another model."""
    assert trajectory(found) == trajectory(without)
    assert found.history["validation_loss"][-1] != without.history["validation_loss"][-1]


def rounded(tolerance):
    def effect(found, without, _others, _case):
        """The first losses are those of full precision, but for rounding, which is there."""
        first, full = found.history["train_loss"][0], without.history["train_loss"][0]
        assert first != full
        close(first, full, tolerance)

    return effect


def warmed(found, without, _others, _case):
    """The first step is made from the same parameters, and is a smaller one."""
    (first, *later), (wanted, *others) = found.history["train_loss"], without.history["train_loss"]
    assert first == wanted and later != others


def cut(found, without, others, case):
    """The same step where nothing looks at a batch as a whole, and another where something does."""
    model, strategy = case
    assert found.cost["steps"] == without.cost["steps"] and found.cost["forwards"] > without.cost["forwards"]
    if model == "plain" and strategy == "equal":
        tolerance = 0.02 if {"amp bf16", "amp fp16"} & {*others} else 1e-5
        for key, curve in without.history.items():
            close(found.history[key], curve, tolerance)
    else:
        assert trajectory(found) != trajectory(without)


def unseen(found, without, _others, _case):
    assert same(found, without)


def compiled(found, without, others, _case):
    """The same numbers to rounding."""
    tolerance = 0.02 if {"amp bf16", "amp fp16"} & {*others} else 1e-4
    for key, curve in without.history.items():
        close(found.history[key], curve, tolerance)


#: What each feature does to a run, given the run without it, the features beside it, and (model, strategy).
EFFECTS = {
    "amp bf16": rounded(0.05),
    "amp fp16": rounded(0.01),
    "accumulate": cut,
    "ema": averaged,
    "swa": averaged,
    "warmup": warmed,
    "checkpoint-minutes": unseen,
    "compile": compiled,
}


def check(model, strategy, features, path):
    """It trains, each of the features does what it does alone, and a killed run goes on as if it was not."""
    found = whole(model, strategy, *features)
    assert found.status == "done", found.reason
    skipped = {kind: number for kind, number in found.skipped.items() if number}
    # The scale of float16 begins too large, and is halved.
    assert skipped.pop("fp16_overflow", 0) <= 2 * ("amp fp16" in features) and not skipped
    assert all(math.isfinite(number) for step in found.history["train_loss"] for number in step)
    for feature in features:
        others = [other for other in features if other != feature]
        EFFECTS[feature](found, whole(model, strategy, *others), others, (model, strategy))
    with pytest.raises(Killed):
        made(model, strategy, features, path, KILLED_AFTER)
    assert same(made(model, strategy, features, path), found)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("feature", QUICK)
def test_each_setting_goes_with_each_kind_of_strategy(strategy, feature, tmp_path):
    check("dropping", strategy, [feature], tmp_path / "run.pt")


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_settings_go_together(number, tmp_path):
    """Each pair with one of the strategies and models; all of them are the slow test."""
    check(("plain", "normed")[number % 2], STRATEGIES[number % len(STRATEGIES)], PAIRS[number], tmp_path / "run.pt")


COMPILING = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own imports


@pytest.mark.slow
@COMPILING
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_compiled_runs_with_each_kind_of_strategy(strategy, tmp_path):
    for model in ("dropping", "normed"):
        check(model, strategy, ["compile"], tmp_path / f"{model}.pt")


@pytest.mark.slow
@COMPILING
@pytest.mark.parametrize("number", range(len(COMPILED)))
def test_settings_go_together_with_compiled_runs(number, tmp_path):
    check(("plain", "normed")[number % 2], STRATEGIES[number % len(STRATEGIES)], COMPILED[number], tmp_path / "run.pt")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dropping", "normed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_settings_go_together_with_all_strategies_and_models(model, strategy, tmp_path):
    for number, pair in enumerate(PAIRS):
        check(model, strategy, pair, tmp_path / f"{number}.pt")


@pytest.mark.parametrize("pair", REFUSED, ids=" and ".join)
def test_what_cannot_go_together_is_refused_in_a_line_that_names_both(pair):
    with pytest.raises(ValueError, match=REFUSED[pair]):
        settings_with(pair)


@pytest.mark.parametrize("feature", QUICK)
def test_members_of_a_population_are_single_runs_with_each_setting(feature):
    told, benchmark = [], Dropping()
    members = [Member("gradnorm", seed) for seed in (1, 2)]
    cohort = Cohort(benchmark, benchmark.load(), members, settings_with([feature]), tell=told.append)
    assert told == ([ALONE[feature].format("gradnorm")] if feature in ALONE else [])
    train_to_the_end(cohort)
    alone = whole("dropping", "gradnorm", feature)
    (found, _) = cohort.results()
    # `vmap` rounds a layer in bfloat16 elsewhere.
    tolerance = 0 if feature in ALONE else 0.02 if feature == "amp bf16" else 1e-5
    close(found.history["train_loss"], alone.history["train_loss"], tolerance)
    close(found.history["validation_loss"], alone.history["validation_loss"], tolerance)


@pytest.mark.slow
@COMPILING
@pytest.mark.parametrize("number", range(len(COMPILED)))
def test_settings_go_together_in_a_compiled_population(number):
    check_population(("dropping", "normed")[number % 2], STRATEGIES[number % len(STRATEGIES)], COMPILED[number])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dropping", "normed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_settings_go_together_in_a_population(model, strategy):
    for pair in PAIRS:
        check_population(model, strategy, pair)


def check_population(model, strategy, pair):
    """Members are the single runs, and a population that is saved and loaded goes on as if it was not."""
    if not {*pair} & {*ALONE}:
        benchmark, settings = MODELS[model](), settings_with(pair)
        members = [Member(strategy, seed) for seed in (1, 2)]
        first, second = (Cohort(benchmark, benchmark.load(), members, settings) for _ in range(2))
        first.advance(KILLED_AFTER)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        for cohort in (first, second):
            train_to_the_end(cohort)
        (found, _), (resumed, _) = first.results(), second.results()
        assert found.history == resumed.history and found.metrics == resumed.metrics, pair
        alone = whole(model, strategy, *pair)
        tolerance = 0.05 if "amp bf16" in pair else 1e-4
        close(found.history["train_loss"], alone.history["train_loss"], tolerance)
        close(found.history["validation_loss"], alone.history["validation_loss"], tolerance)


# --- several processes -----------------------------------------------------------------------------------------------

DIVIDED = {
    "plain": [*itertools.product(STRATEGIES, QUICK), ("gradnorm", "compile")],
    "normed": [*zip(itertools.cycle(STRATEGIES), QUICK, strict=False)],
}


def in_processes(model, strategy, feature, processes):
    benchmark = MODELS[model]()
    settings, members = settings_with([feature]), [Member(strategy, 1)]
    cohort = Cohort(benchmark, benchmark.load(), members, settings, vectorised=False, processes=processes)
    train_to_the_end(cohort)
    (found,) = cohort.results()
    return {"status": found.status, "history": found.history, "weights": cohort.weights(0)}


def one_process(rank, directory):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(f"{directory}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60))
    processes = Processes(rank, 2)
    found = {model: [in_processes(model, *case, processes) for case in cases] for model, cases in DIVIDED.items()}
    torch.save(found, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@COMPILING
def test_each_setting_goes_with_several_processes(tmp_path):
    """Without batch statistics the run is that of one process; with them all processes have the same."""
    mp.spawn(one_process, (str(tmp_path),), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for model, runs in one.items():
        for (strategy, feature), run, theirs in zip(DIVIDED[model], runs, other[model], strict=True):
            assert run["status"] == "done" and run["history"] == theirs["history"], (model, strategy, feature)
            for name, value in run["weights"].items():
                assert torch.equal(value, theirs["weights"][name]), (model, strategy, feature, name)
            if model == "plain":
                tolerance = 0.05 if feature.startswith("amp") else 1e-4
                alone = whole(model, strategy, feature).history
                close(run["history"]["train_loss"], alone["train_loss"], tolerance)
                close(run["history"]["validation_loss"], alone["validation_loss"], tolerance)


# --- the page --------------------------------------------------------------------------------------------------------


def cell(one, other):
    if one == other or {(one, other), (other, one)} & SAME_OPTION:
        return ""
    if {(one, other), (other, one)} & {*REFUSED}:
        return "refused"
    if other == "population":
        return "one at a time" if one in ALONE else "yes"
    return "yes"


def test_the_page_has_the_table():
    columns = [*FEATURES, "torchrun", "population"]
    lines = ["| | " + " | ".join(f"`{name}`" for name in columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| `{one}` | " + " | ".join(cell(one, other) for other in columns) + " |" for one in FEATURES]
    table = "\n".join(lines)
    assert table in PAGE.read_text(encoding="utf-8"), table
