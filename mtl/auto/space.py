"""What `mtl auto` decides on: losses, weights, regularization, optimizer and architecture as one space."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mtl.auto.parts import PARTS
from mtl.benchmarks import Benchmark, Splits, Task
from mtl.benchmarks.apart import tasks_of_losses
from mtl.benchmarks.losses import spec_of
from mtl.benchmarks.trunk import reads_trunk
from mtl.hyperparameters import defaults, domains
from mtl.losses import Loss, TaskLoss, make_loss
from mtl.losses.labels import known
from mtl.losses.suggest import suggest
from mtl.models import make_trunk
from mtl.search.space import Space
from mtl.search.space.build import build_space
from mtl.search.space.grammar import Bounds, Listed, Range, Word
from mtl.train import Settings, check_losses, check_trunk
from mtl.train.optimizers import read_optimizer

# Strategies that read losses alone, so that a step costs what one with equal weights does.
_STRATEGIES = ("equal", "uncertainty", "uw-so", "imtl-l", "famo", "dwa")
_FIXED_WEIGHTS = "static"  # searched on the simplex, which has a dimension for each task
_MOST_WEIGHTS = 4
_STARTING = ("uncertainty", "imtl-l")  # where their learned weights start matters little, and is not searched
# Of optimizers with a rate for each parameter; one rate for all, as of SGD, has to be tens of times as high.
_ADAPTIVE = ("adam", "adamw", "nadam", "radam", "adamax")
_TRIED = ("adam", "adamw")
_SCHEDULES = ("constant", "cosine", "one-cycle")
_RATES = 10.0  # the learning rate is searched from a tenth of the usual one to ten times as much
_AROUND = 4.0  # a number of a suggested loss is searched from a fourth of it to four times as much
_FEW_TASKS, _SOME_TASKS = 4, 8  # up to which a task has three losses to choose from, or two
#: What is trained where nothing is decided.
USUAL = {"strategy": "equal"}


class AutoSpace(NamedTuple):
    """What is decided on.

    Attributes:
        space: of the race.
        remarks: what is left out, and why; a sentence each.
    """

    space: Space
    remarks: list[str]


def auto_space(
    benchmark: Benchmark, splits: Splits, settings: Settings, only: Collection[str], kept: Collection[str]
) -> AutoSpace:
    """The space of a race.

    Args:
        benchmark: has tasks and model.
        splits: of which the training labels say which losses fit.
        settings: of the recipe, in the middle of what is searched.
        only: the parts that are decided.
        kept: training settings, and `loss.TASK`, that the user has given and that stay as they are.

    Raises:
        ValueError: nothing is left to decide; one line.
    """
    remarks: list[str] = []
    ranges: dict[str, Range] = {"lr": Word("default"), "weight_decay": Word("default")}
    strategies = _strategies(benchmark) if "weights" in only else ["equal"]
    if "losses" in only:
        ranges |= _losses(benchmark, splits, settings, kept, remarks)
    if "optimizer" in only:
        ranges |= _optimizer(settings)
    if "regularization" in only:
        ranges |= _regularization(benchmark, splits, settings, remarks)
    if "architecture" in only:
        ranges |= _architecture(benchmark, splits, settings, remarks)
    for name in kept:
        ranges.pop(name, None)
    for name in ("lr", "weight_decay"):
        ranges.setdefault(name, Word("default"))
    for strategy in _STARTING:
        if strategy in strategies:
            ranges[f"strategy.{strategy}.start"] = Word("default")
    space = build_space(benchmark, strategies, ranges)
    if not space.varied:
        what = "everything" if set(only) == {*PARTS} else f"--only {','.join(only)}"
        raise ValueError(f"{what}: there is nothing to decide for benchmark {benchmark.name!r}")
    return AutoSpace(space, remarks)


def _strategies(benchmark: Benchmark) -> list[str]:
    losses = len(tasks_of_losses(benchmark.tasks))
    if losses == 1:
        return ["equal"]
    return [*_STRATEGIES, *([_FIXED_WEIGHTS] if losses <= _MOST_WEIGHTS else [])]


def _losses(
    benchmark: Benchmark, splits: Splits, settings: Settings, kept: Collection[str], remarks: list[str]
) -> dict[str, Range]:
    """Choices for each task and ranges of their numbers; a task whose loss is no `Loss` keeps it."""
    tasks = len(benchmark.tasks)
    most = 3 if tasks <= _FEW_TASKS else 2
    if tasks > _SOME_TASKS:
        remarks.append(f"The losses of {tasks} tasks are left as they are: too many choices for a race.")
        return {}
    ranges: dict[str, Range] = {}
    for task in benchmark.tasks:
        if f"loss.{task.name}" in kept:
            continue
        if len(tasks_of_losses([task])) > 1:
            remarks.append(f"The loss of task {task.name} is weighed by its parts, {task.loss}, and stays.")
            continue
        try:
            choices = [spec_of(task.name, task.loss)]
        except ValueError:
            remarks.append(f"The loss of task {task.name} has no name that --loss takes, and stays.")
            continue
        for loss, own in _suggested(task, splits):
            if len(choices) == most:
                break
            if (
                str(loss) in choices
                or not _reads_alike(loss, task.loss)
                or not _fits(benchmark, splits, settings, task, loss)
            ):
                continue
            choices.append(str(loss))
            for key, bounds in own.items():
                ranges.setdefault(f"loss.{task.name}.{key}", bounds)
        ranges[f"loss.{task.name}"] = Listed(tuple(choices))
    return ranges


def _suggested(task: Task, splits: Splits) -> Iterator[tuple[Loss, dict[str, Range]]]:
    """The losses that fit the training labels, and ranges around what is suggested for their numbers."""
    try:
        found = suggest(labels := splits.train.targets[task.name], task.outputs)
        if _counted(task, labels):
            found = suggest(labels, task.outputs, "counts")
    except ValueError:  # no label is there
        return
    for suggestion in found.losses:
        loss = make_loss(suggestion.spec)
        usual, known, own = defaults(loss), domains(loss), dict[str, Range]()
        for key, domain in known.items():
            value = getattr(loss, key)
            if domain.search is not None and value != usual[key] and isinstance(value, float) and domain.log:
                low, high = max(value / _AROUND, domain.low or 0.0), value * _AROUND
                own[key] = Bounds(f"{low:.3g}", f"{high:.3g}", log=True)
            # What has a range is searched, whatever was suggested for it.
            if domain.search is not None and isinstance(value, float) and value != usual[key]:
                loss = dataclasses.replace(loss, **{key: usual[key]})
        yield loss, own


def _counted(task: Task, labels: Tensor) -> bool:
    """Whether a task says by its loss that its labels, all whole numbers, are counts, whatever they look like."""
    there = labels[known(labels)]
    return getattr(task.loss, "kind", "") == "counts" and bool((there == there.round()).all())


def _reads_alike(loss: Loss, own: TaskLoss) -> bool:
    """Whether both take a prediction for the same: the logarithm of a mean, or a mean; metrics judge one of them."""
    return not isinstance(own, Loss) or not own.kind or (loss.kind == "counts") == (own.kind == "counts")


def _fits(benchmark: Benchmark, splits: Splits, settings: Settings, task: Task, loss: Loss) -> bool:
    """Whether a loss takes the outputs and labels of a task."""
    try:
        check_losses(benchmark, splits, settings, {task.name: [loss]})
    except ValueError:
        return False
    return True


def _optimizer(settings: Settings) -> dict[str, Range]:
    own = settings.optimizer
    others = _TRIED if read_optimizer(own).name in _ADAPTIVE else ()
    optimizers = tuple(dict.fromkeys([own, *others]))
    schedules = tuple(dict.fromkeys([settings.schedule, *_SCHEDULES]))
    lr = settings.lr or 1e-3
    return {
        "lr": Bounds(f"{lr / _RATES:.3g}", f"{lr * _RATES:.3g}", log=True),
        "optimizer": Listed(optimizers),
        "schedule": Listed(schedules),
    }


def _regularization(benchmark: Benchmark, splits: Splits, settings: Settings, remarks: list[str]) -> dict[str, Range]:
    found: dict[str, Range] = {"clip": Bounds("0.1", "10", log=True)}
    if read_optimizer(settings.optimizer).decays:
        found["weight_decay"] = Bounds("1e-6", "1e-1", log=True)
    inputs = splits.train.first(2)
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        found["noise"] = Bounds("0", "0.3")
    try:
        check_trunk(benchmark, dataclasses.replace(settings, dropout=0.1))
        drops = reads_trunk(benchmark, inputs)
    except ValueError:
        drops = False
    if drops:
        found["dropout"] = Bounds("0", "0.5")
    else:
        remarks.append("The model has no dropout that a setting could change.")
    return found


def _architecture(benchmark: Benchmark, splits: Splits, settings: Settings, remarks: list[str]) -> dict[str, Range]:
    """Trunks of other sizes and experts, for trunks of full layers, which cost little."""
    found: dict[str, Range] = {}
    inputs = splits.train.first(2)
    own = settings.model or getattr(benchmark, "trunk", "")
    trunk = make_trunk(own) if own and reads_trunk(benchmark, inputs) else None
    width, depth = getattr(trunk, "width", None), getattr(trunk, "depth", None)
    if trunk is None or not isinstance(width, int) or not isinstance(depth, int):
        remarks.append("The architecture is left as it is: other trunks than ones of full layers cost too much to try.")
        return found
    sizes: list[Mapping[str, int]] = [{}, {"width": 2 * width}, {"depth": depth + 1}, {"width": max(1, width // 2)}]
    found["model"] = Listed(tuple(str(dataclasses.replace(trunk, **size)) for size in sizes))
    if len(benchmark.tasks) > 1 and reads_trunk(benchmark, inputs, "architecture"):
        sharing = settings.architecture or getattr(benchmark, "architecture", "hard-sharing")
        found["architecture"] = Listed(tuple(dict.fromkeys([sharing, "hard-sharing", "mmoe:experts=3"])))
    return found
