"""The losses of a benchmark's tasks: others than its own, and those that its training labels decide."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mtl.benchmarks.benchmark import Benchmark, Examples, Splits, Task
from mtl.hyperparameters import read_items
from mtl.losses import Loss, TaskLoss, make_loss
from mtl.suggestions import nearest

_BETWEEN = "; "


def with_losses(benchmark: Benchmark, specs: Mapping[str, str]) -> Benchmark:
    """The same benchmark with other losses of some of its tasks, which keep its own as their yardstick.

    Args:
        benchmark: stays as it is.
        specs: of losses, by task.

    Raises:
        ValueError: an unknown task, or a spec that cannot be read; one line that names the task.
    """
    names = [task.name for task in benchmark.tasks]
    found = {}
    for name, spec in specs.items():
        if name not in names:
            raise ValueError(f"loss of task {name!r}: there is no such task: {nearest(name, names)}")
        found[name] = _made(name, spec)
    tasks = [
        dataclasses.replace(task, loss=found[task.name], own_loss=task.yardstick) if task.name in found else task
        for task in benchmark.tasks
    ]
    return _with_tasks(benchmark, tasks)


def fitted(benchmark: Benchmark, splits: Splits) -> Benchmark:
    """The benchmark with the losses that training labels decide, such as `class_weights=inverse`, as numbers.

    Raises:
        ValueError: the labels of the training split do not say; one line that names the task.
    """
    tasks = fitted_tasks(benchmark.tasks, splits.train)
    return (
        benchmark
        if all(new is old for new, old in zip(tasks, benchmark.tasks, strict=True))
        else _with_tasks(benchmark, tasks)
    )


def fitted_tasks(tasks: Sequence[Task], train: Examples) -> list[Task]:
    """The same of tasks alone; those whose loss waits for nothing stay the same object."""
    return [_fitted(task, train) for task in tasks]


def _fitted(task: Task, train: Examples) -> Task:
    def in_numbers(loss: TaskLoss) -> TaskLoss:
        if not isinstance(loss, Loss) or not loss.undecided():
            return loss
        return loss.fitted(train.targets[task.name], task.outputs)

    try:
        loss, own = in_numbers(task.loss), in_numbers(task.yardstick)
    except ValueError as error:
        raise ValueError(f"task {task.name!r}: {error}") from error
    if loss is task.loss and own is task.yardstick:
        return task
    return dataclasses.replace(task, loss=loss, own_loss=None if task.own_loss is None else own)


def _with_tasks(benchmark: Benchmark, tasks: Sequence[Task]) -> Benchmark:
    changed = copy.copy(benchmark)
    changed.tasks = tuple(tasks)
    return changed


def named_with(name: str, specs: Mapping[str, str]) -> str:
    """The name by which `find_benchmark` finds a benchmark with these losses: `census[income=focal; age=mae]`."""
    if not specs:
        return name
    return f"{name}[{_BETWEEN.join(f'{task}={_made(task, spec)}' for task, spec in specs.items())}]"


def _made(task: str, spec: str) -> Loss:
    try:
        return make_loss(spec)
    except ValueError as error:
        raise ValueError(f"loss of task {task!r}: {error}") from error


def spec_of(task: str, loss: Any) -> str:
    """The spec that `--loss` takes for a task's loss.

    Raises:
        ValueError: it has none, such as a function in the file of the benchmark; one line that names the task.
    """
    spec = str(loss)
    try:
        same = isinstance(loss, Loss) and make_loss(spec) == loss
    except ValueError:
        same = False
    if not same:
        raise ValueError(f"the loss of task {task!r}, {spec}, has no name that --loss takes")
    return spec


def parted(name: str) -> tuple[str, dict[str, str]]:
    """The name of the benchmark itself, and the losses that stand behind it in brackets."""
    if not name.endswith("]"):
        return name, {}
    begin = depth = len(name)
    for begin in reversed(range(len(name))):  # paths, of a file of the benchmark or of a loss, may have brackets too
        depth += (name[begin] == "]") - (name[begin] == "[")
        if depth == len(name):
            break
    else:
        return name, {}
    pairs = [pair.partition("=") for pair in name[begin + 1 : -1].split(_BETWEEN)]
    return name[:begin], {task.strip(): spec for task, _, spec in pairs}


def read_losses(given: Sequence[str]) -> dict[str, str]:
    """`TASK=SPEC` items of `--loss`.

    Raises:
        ValueError: an item that is not of that form, or a task given twice.
    """
    return read_items("--loss", given, "TASK=SPEC, such as --loss age=huber:delta=0.5")
