"""Loads a benchmark's data and refuses what would spoil every run, before any work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset

from mtl.benchmarks.benchmark import GEOMETRIES, Benchmark, Examples, MissingData, Split, Splits, Task
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.reading import ReadFailed
from mtl.benchmarks.stored import Stored
from mtl.benchmarks.tree import named_leaves
from mtl.losses.labels import known
from mtl.messages import in_one_line, kind_of
from mtl.metrics import Metric
from mtl.suggestions import nearest


def load_checked(benchmark: Benchmark) -> Splits:
    """The splits of `benchmark`.

    Raises:
        ValueError: its tasks are not what they should be, its data is not installed, does not fit the tasks, or has NaN
            or infinite inputs; one line.
    """
    check_tasks(benchmark)
    where = f"benchmark {benchmark.name!r}"
    try:
        splits = benchmark.load()
    except MissingData as error:
        raise ValueError(str(error)) from error
    except ImportError as error:
        hint = f": {benchmark.install}" if getattr(benchmark, "install", "") else ""
        raise ValueError(f"{where} needs {error.name!r}, which is not installed{hint}") from error
    except Exception as error:
        raise ValueError(f"{where}: its load() fails: {in_one_line(error)}") from error
    if not isinstance(splits, Splits):
        raise ValueError(f"{where}: its load() returns {kind_of(splits)}, not Splits(train, validation, test)")
    try:
        _check_own(where, splits, benchmark)
        for name, split in splits.items():
            for place, part, tasks in _parts(f"{where}, {name} split", split, benchmark):
                _check_form(place, part, tasks)
        splits = splits.marked(benchmark.tasks)
        for name, split in splits.items():
            if isinstance(split, OwnExamples):
                _check_alike(f"{where}, {name} split", split)
            _check_labels(f"{where}, {name} split", split, benchmark)
    except ReadFailed as error:
        raise ValueError(f"{where}: {error}") from error
    return splits


def check_tasks(benchmark: Any) -> None:
    """Raise `ValueError` for the first thing about a benchmark's tasks that is not as it should be."""
    where, tasks = f"benchmark {benchmark.name!r}", benchmark.tasks
    if isinstance(tasks, Task):
        raise ValueError(f"{where}: its tasks are a single Task; a tuple is wanted: (Task(...),)")
    if isinstance(tasks, str) or not isinstance(tasks, Sequence):
        raise ValueError(f"{where}: its tasks are {kind_of(tasks)}; a tuple of Task is wanted")
    if not tasks:
        raise ValueError(f"{where}: it has no tasks")
    for task in tasks:
        if not isinstance(task, Task):
            raise ValueError(f"{where}: {task!r} among its tasks is {kind_of(task)}, not a Task")
        if not isinstance(task.name, str) or not task.name.strip():
            raise ValueError(f"{where}: a task is named {task.name!r}; a text that is not empty is wanted")
        if "=" in task.name:
            raise ValueError(
                f"{where}: a task is named {task.name!r}; options such as --loss TASK=SPEC end a name at '='"
            )
        _check_task(f"{where}: task {task.name!r}", task)
    names = [task.name for task in tasks]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{where}: two of its tasks are named {twice[0]!r}")


def _check_task(where: str, task: Task) -> None:
    if not callable(task.loss):
        raise ValueError(f"{where}: its loss is {kind_of(task.loss)}; a loss of mtl.losses or a function is wanted")
    if isinstance(task.outputs, bool) or not isinstance(task.outputs, int) or task.outputs < 1:
        raise ValueError(f"{where}: outputs={task.outputs!r} must be a whole number from 1 on")
    if task.ignore is not None and (isinstance(task.ignore, bool) or not isinstance(task.ignore, int | float)):
        raise ValueError(f"{where}: ignore={task.ignore!r} must be a number, the label of what is missing, or None")
    if isinstance(task.start, bool) or not isinstance(task.start, int | float) or not math.isfinite(task.start):
        raise ValueError(f"{where}: start={task.start!r} must be a finite number, at which a new model begins")
    if task.geometry not in ("", *GEOMETRIES):
        raise ValueError(f"{where}: geometry={task.geometry!r} must be one of {', '.join(GEOMETRIES)}, or empty")
    if isinstance(task.metrics, Metric):
        raise ValueError(f"{where}: its metrics are a single Metric; a tuple is wanted: ({task.metrics.name},)")
    if isinstance(task.metrics, str) or not isinstance(task.metrics, Sequence):
        raise ValueError(f"{where}: its metrics are {kind_of(task.metrics)}; a tuple of Metric is wanted")
    if not task.metrics:
        raise ValueError(f"{where}: it has no metric, by which its runs could be compared")
    for metric in task.metrics:
        if not isinstance(metric, Metric):
            raise ValueError(
                f"{where}: {metric!r} among its metrics is {kind_of(metric)}, not a Metric such as mtl.metrics.accuracy"
            )
    names = [metric.name for metric in task.metrics]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{where}: two of its metrics are named {twice[0]!r}")


def _check_own(where: str, splits: Splits, benchmark: Benchmark) -> None:
    """Either no split has examples for each task, or all have, of the benchmark's tasks and in one nesting."""
    own = {name: split for name, split in splits.items() if isinstance(split, OwnExamples | Mapping)}
    wanted = [task.name for task in benchmark.tasks]
    for name, split in own.items():
        parts = split.parts if isinstance(split, OwnExamples) else split
        for task, part in parts.items():
            place = f"{where}, {name} split"
            if task not in wanted:
                raise ValueError(
                    f"{place}: it has examples of {task!r}, which is no task: {nearest(str(task), wanted)}"
                )
            if not isinstance(part, Split | Stored):
                _check_form(f"{place}, task {task!r}", part, [])
        if lacking := [task for task in wanted if task not in parts]:
            raise ValueError(f"{where}, {name} split: it has no examples of task {lacking[0]!r}")
    if own and len(own) < len(splits.items()):
        other = next(name for name, _ in splits.items() if name not in own)
        raise ValueError(
            f"{where}: its {next(iter(own))} split has examples for each task, and its {other} split has not"
        )


def _check_alike(where: str, split: OwnExamples) -> None:
    """One model reads the inputs of all tasks."""
    first, *others = ((task, part.first(1)) for task, part in split.parts.items())
    for task, inputs in others:
        one, other = (_form(tree) for tree in (first[1], inputs))
        if one != other:
            raise ValueError(
                f"{where}: the inputs of task {task!r} are {', '.join(other)}, and those of task {first[0]!r} "
                f"{', '.join(one)}; one model reads both"
            )


def _form(inputs: Any) -> list[str]:
    """What inputs consist of: places, kinds of numbers and axes."""
    return [
        f"{name} ({str(leaf.dtype).removeprefix('torch.')}, {leaf.ndim} axes)"
        for name, leaf in named_leaves(inputs, "inputs")
    ]


def _parts(where: str, split: Any, benchmark: Benchmark) -> list[tuple[str, Any, Sequence[Task]]]:
    """What a split consists of: the examples of all tasks, or those of each."""
    if not isinstance(split, OwnExamples):
        return [(where, split, benchmark.tasks)]
    return [(f"{where}, task {task.name!r}", split.of_task(task.name), [task]) for task in benchmark.tasks]


def _check_form(where: str, split: Any, tasks: Sequence[Task]) -> None:
    if isinstance(split, IterableDataset):
        raise ValueError(
            f"{where}: it is {kind_of(split)}, an IterableDataset, whose examples have no numbers, so that no batch "
            "could be read again; a Dataset with __len__ and __getitem__ is wanted"
        )
    if isinstance(split, Stored):
        if len(split) == 0:
            raise ValueError(f"{where}: it is empty")
        split = split.take(slice(2))  # the others are seen when they are trained on
    if not isinstance(split, Split):
        raise ValueError(f"{where}: it is {kind_of(split)}, not a Split(inputs, targets)")
    _check_inputs(where, split.inputs)
    if not isinstance(split.targets, Mapping):
        raise ValueError(
            f"{where}: its targets are {kind_of(split.targets)}; a dict with labels for each task is wanted"
        )
    if len(split) == 0:
        raise ValueError(f"{where}: it is empty")
    _check_finite(where, split.inputs)
    for task in tasks:
        target = split.targets.get(task.name)
        if target is None:
            raise ValueError(f"{where}: no target for task {task.name!r}")
        _check_tensor(f"{where}: the targets of task {task.name!r} are", target)
        if len(target) != len(split):
            raise ValueError(f"{where}: task {task.name!r} has {len(target)} targets for {len(split)} examples")


def _check_labels(where: str, split: Examples, benchmark: Benchmark) -> None:
    for task in benchmark.tasks:
        target = split.targets[task.name]
        if target.is_floating_point() and bool(target.isinf().any()):
            raise ValueError(f"{where}: task {task.name!r} has infinite targets")
        if not bool(known(target).any()):
            raise ValueError(f"{where}: task {task.name!r} has no label at all")


def _check_inputs(where: str, inputs: Any) -> None:
    leaves = named_leaves(inputs, "inputs")
    if not leaves:
        raise ValueError(f"{where}: its inputs are {kind_of(inputs)} without a tensor in it")
    for name, leaf in leaves:
        _check_tensor(f"{where}: its {name} are", leaf)
    first = leaves[0]
    for name, leaf in leaves[1:]:
        if len(leaf) != len(first[1]):
            raise ValueError(f"{where}: its {name} are of {len(leaf)} examples, and its {first[0]} of {len(first[1])}")


def _check_finite(where: str, inputs: Any) -> None:
    for name, leaf in named_leaves(inputs, "inputs"):
        if leaf.is_floating_point() and not bool(leaf.isfinite().all()):
            bad = ~leaf.isfinite().reshape(len(leaf), -1).all(1)
            place = "" if leaf is inputs else f" in {name}"
            raise ValueError(
                f"{where}: {int(bad.sum())} examples have NaN or infinite features{place}, the first is number "
                f"{int(bad.nonzero()[0])}"
            )


def _check_tensor(what: str, value: Any) -> None:
    if type(value).__module__ == "numpy":
        raise ValueError(f"{what} a NumPy array; torch.from_numpy makes the tensor that is wanted")
    if not isinstance(value, Tensor):
        raise ValueError(f"{what} {kind_of(value)}; a tensor is wanted")
    if value.ndim == 0:
        raise ValueError(f"{what} a single number; a tensor with an axis of examples is wanted")
    if value.is_complex():
        raise ValueError(f"{what} complex numbers; real ones are wanted")
