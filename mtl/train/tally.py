"""Losses and metrics from predictions: of all examples at once, or summed up as they come."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split, Task
from mtl.benchmarks.tree import Gathered
from mtl.losses import loss_of, measure_of
from mtl.losses.labels import known
from mtl.messages import in_one_line
from mtl.metrics import Metric

Metrics = dict[str, dict[str, float]]

_HELD = 2**28  # bytes of predictions that are held, of all models
_DIVISION = 7  # the seed by which examples are divided into folds

_Value = TypeVar("_Value")


class MetricFailed(Exception):
    """A metric, or the loss of a task on data that is measured, raised an error; the message names task and metric."""


class Measured(NamedTuple):
    """A model on a split.

    Attributes:
        losses: by task.
        metrics: by task and metric; NaN where a metric is undefined or raised an error.
        failure: which loss or metric raised which error first; empty for none.
        without: the metrics without each fold of the examples in turn, where they were asked for.
    """

    losses: dict[str, float]
    metrics: Metrics
    failure: str
    without: Sequence[Metrics] = ()

    @property
    def broken(self) -> bool:
        """Whether a loss is not finite."""
        return not all(map(math.isfinite, self.losses.values()))

    def joined(self, other: Measured) -> Measured:
        """With the same model on other tasks; what both have."""
        without = [ours | theirs for ours, theirs in zip(self.without, other.without, strict=False)]
        return Measured(
            self.losses | other.losses, self.metrics | other.metrics, self.failure or other.failure, without
        )


def measured_loss(task: Task, prediction: Tensor, labels: Tensor) -> float:
    """The loss of a task on some examples, by which its validation and test data are measured.

    Raises:
        MetricFailed: it raised an error.
    """
    try:
        return float(loss_of(measure_of(task.loss), prediction, labels))
    except torch.OutOfMemoryError:
        raise  # of the device, whatever the loss is
    except Exception as error:  # a loss of a user's may raise anything
        raise MetricFailed(f"the loss of task {task.name!r} raises {in_one_line(error)}") from error


def can_be_kept(predicted: Mapping[str, Tensor], examples: int, total: int) -> bool:
    """Whether predictions for all examples can be held.

    Args:
        predicted: for some, (N, n, ...) by task.
        examples: how many these are, n.
        total: of all examples.
    """
    return sum(each.numel() * each.element_size() for each in predicted.values()) / examples * total <= _HELD


def division(examples: int, folds: int) -> Tensor | None:
    """Of each example (n,) the number of its fold; None where there are not two for each, or no folds."""
    if not folds or examples < 2 * folds:
        return None
    return torch.randperm(examples, generator=torch.Generator().manual_seed(_DIVISION)) % folds


class Kept:
    """Predictions for all examples, which are measured together.

    Args:
        tasks: of each model.
        fold: see `division`.
        examples: how many there are.
    """

    def __init__(self, tasks: Sequence[Sequence[Task]], fold: Tensor | None, examples: int) -> None:
        self._tasks, self._fold, names = tasks, fold, [task.name for task in tasks[0]]
        self._predictions = {name: Gathered(examples, axis=1) for name in names}
        self._targets = {name: Gathered(examples) for name in names}

    def update(self, predicted: Mapping[str, Tensor], chunk: Split) -> None:
        """Add the predictions (N, n, ...) for the next examples."""
        for name, gathered in self._predictions.items():
            gathered.add(predicted[name])
            self._targets[name].add(chunk.targets[name])

    def results(self) -> list[Measured]:
        """Of each model."""
        every = {name: gathered.whole() for name, gathered in self._predictions.items()}
        labels = {name: gathered.whole() for name, gathered in self._targets.items()}
        found = _of_each(self._tasks, every, labels)
        if self._fold is None:
            return found
        without: list[list[Metrics]] = [[] for _ in found]
        for number in range(int(self._fold.max()) + 1):
            rest = (self._fold != number).nonzero().flatten()
            some = {name: values[:, rest.to(values.device)] for name, values in every.items()}
            theirs = {name: values[rest.to(values.device)] for name, values in labels.items()}
            for metrics, measured in zip(without, _of_each(self._tasks, some, theirs), strict=True):
                metrics.append(measured.metrics)
        return [each._replace(without=metrics) for each, metrics in zip(found, without, strict=True)]


def _of_each(
    tasks: Sequence[Sequence[Task]], predicted: Mapping[str, Tensor], labels: Mapping[str, Tensor]
) -> list[Measured]:
    """The models on the same examples, from predictions (N, n, ...)."""
    split = Split(None, labels)
    return [
        measure(own, {name: prediction[row] for name, prediction in predicted.items()}, split)
        for row, own in enumerate(tasks)
    ]


class Streamed:
    """Sums over examples, of predictions that would be too many to hold.

    Args:
        tasks: of each model.
        fold: see `division`.
    """

    def __init__(self, tasks: Sequence[Sequence[Task]], fold: Tensor | None) -> None:
        self._fold, self._done, self._all = fold, 0, _Sums(tasks)
        self._without = [] if fold is None else [_Sums(tasks) for _ in range(int(fold.max()) + 1)]

    def update(self, predicted: Mapping[str, Tensor], chunk: Split) -> None:
        """Add the predictions (N, n, ...) for the next examples."""
        self._all.update(predicted, chunk.targets)
        if self._fold is not None:
            fold = self._fold[self._done : self._done + len(chunk)]
            for number, sums in enumerate(self._without):
                rest = (fold != number).nonzero().flatten()
                some = {name: values[:, rest.to(values.device)] for name, values in predicted.items()}
                sums.update(some, {name: labels[rest.to(labels.device)] for name, labels in chunk.targets.items()})
        self._done += len(chunk)

    def results(self) -> list[Measured]:
        """Of each model."""
        found, without = self._all.results(), [sums.results() for sums in self._without]
        return [each._replace(without=[of_each[row].metrics for of_each in without]) for row, each in enumerate(found)]


class _Sums:
    """Sums over examples, of each model; losses are means over labels."""

    def __init__(self, tasks: Sequence[Sequence[Task]]) -> None:
        self._tasks = tasks
        self._losses = [{task.name: [0.0, 0] for task in own} for own in tasks]
        self._metrics = [{task.name: [(m, m.begin()) for m in task.metrics] for task in own} for own in tasks]
        self._failures: list[dict[tuple[str, str], str]] = [{} for _ in tasks]

    def update(self, predicted: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        for row, own in enumerate(self._tasks):
            for task in own:
                prediction, labels = predicted[task.name][row], targets[task.name]
                if count := int(known(labels).sum()):
                    total = self._losses[row][task.name]
                    total[0] += self._loss(row, task, prediction, labels) * count
                    total[1] += count
                for metric, accumulator in self._metrics[row][task.name]:
                    self._tried(row, task, metric, partial(accumulator.update, prediction, labels))

    def results(self) -> list[Measured]:
        found = []
        for row, own in enumerate(self._tasks):
            metrics = {
                task.name: {
                    metric.name: self._tried(row, task, metric, accumulator.compute)
                    for metric, accumulator in self._metrics[row][task.name]
                }
                for task in own
            }
            losses = {name: total / count if count else math.nan for name, (total, count) in self._losses[row].items()}
            found.append(Measured(losses, metrics, next(iter(self._failures[row].values()), "")))
        return found

    def _loss(self, row: int, task: Task, prediction: Tensor, labels: Tensor) -> float:
        """The loss of some examples; NaN where it has raised an error."""
        try:
            return measured_loss(task, prediction, labels)
        except MetricFailed as error:
            self._failures[row].setdefault((task.name, ""), str(error))
            return math.nan

    def _tried(self, row: int, task: Task, metric: Metric, function: Callable[[], float | None]) -> float:
        """A step of a metric; one that has raised an error is left alone and is NaN."""
        failures, key = self._failures[row], (task.name, metric.name)
        if key in failures:
            return math.nan
        try:
            value = guarded(metric, task, function)
        except MetricFailed as error:
            failures[key] = str(error)
            return math.nan
        return math.nan if value is None else value


def measure(tasks: Sequence[Task], predictions: Mapping[str, Tensor], split: Examples) -> Measured:
    """Loss and metrics of each task from predictions for a whole split."""
    losses, failures = dict[str, float](), list[str]()
    metrics: Metrics = {task.name: {} for task in tasks}
    for task in tasks:
        try:
            losses[task.name] = measured_loss(task, predictions[task.name], split.targets[task.name])
        except MetricFailed as error:
            failures.append(str(error))
            losses[task.name] = math.nan
        for metric in task.metrics:
            try:
                value = guarded(metric, task, partial(metric, predictions[task.name], split.targets[task.name]))
            except MetricFailed as error:
                failures.append(str(error))
                value = math.nan
            metrics[task.name][metric.name] = value
    return Measured(losses, metrics, failures[0] if failures else "")


def guarded(metric: Metric, task: Task, function: Callable[[], _Value]) -> _Value:
    try:
        return function()
    except Exception as error:  # a metric of a user's may raise anything
        raise MetricFailed(f"metric {metric.name!r} of task {task.name!r} raises {in_one_line(error)}") from error
