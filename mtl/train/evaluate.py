"""Losses, metrics and the selection score of a model on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Examples, Split, Task
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.tree import Gathered
from mtl.losses import constant_prediction, loss_of, measure_of
from mtl.losses.labels import known
from mtl.messages import in_one_line
from mtl.metrics import Metric
from mtl.train.model import predictions

Metrics = dict[str, dict[str, float]]

CHUNK = 4096  # examples of an evaluation at once, over all models
_HELD = 2**28  # bytes of predictions that are held, of all models
_NUMBERS = 2**25  # numbers that a metric of given predictions gets at once

_Value = TypeVar("_Value")


class MetricFailed(Exception):
    """A metric raised an error; the message names task and metric."""


class Measured(NamedTuple):
    """A model on a split.

    Attributes:
        losses: by task.
        metrics: by task and metric; NaN where a metric is undefined or raised an error.
        failure: which metric raised which error first; empty for none.
    """

    losses: dict[str, float]
    metrics: Metrics
    failure: str

    @property
    def broken(self) -> bool:
        """Whether a loss is not finite."""
        return not all(map(math.isfinite, self.losses.values()))


def task_losses(tasks: Sequence[Task], predictions: Mapping[str, Tensor], batch: Examples) -> dict[str, Tensor]:
    """The loss of each task on a batch, by which its validation and test data are measured."""
    return {
        task.name: loss_of(measure_of(task.loss), predictions[task.name], batch.targets[task.name]) for task in tasks
    }


def evaluate(model: nn.Module, tasks: Sequence[Task], split: Examples) -> tuple[dict[str, float], Metrics]:
    """Loss and metrics of each task over a whole split, in evaluation mode.

    Raises:
        MetricFailed: a metric raised an error.
    """
    found = measure_model(model, tasks, split)
    if found.failure:
        raise MetricFailed(found.failure)
    return found.losses, found.metrics


@torch.no_grad()
def measure_model(model: nn.Module, tasks: Sequence[Task], split: Examples) -> Measured:
    """The same, where a metric that raises an error is NaN and told of."""
    was_training = model.training
    model.eval()

    def predict(inputs: Any) -> dict[str, Tensor]:
        found = predictions(model, inputs, own=isinstance(split, OwnExamples))
        return {task: predicted[None] for task, predicted in found.items()}

    (found,) = measure_members([tasks], split, predict, CHUNK)
    model.train(was_training)
    return found


def measure_members(
    tasks: Sequence[Sequence[Task]], split: Examples, predict: Callable[[Any], Mapping[str, Tensor]], size: int
) -> list[Measured]:
    """Loss and metrics over a whole split, of many models at once.

    Of predictions that are too many to hold, metrics are summed up as they come.

    Args:
        tasks: of each model.
        split: the examples.
        predict: from inputs of some examples to predictions (N, n, ...) by task. Where tasks have their own examples
            it gets inputs by task, of one task at a time.
        size: examples at once.
    """
    if isinstance(split, OwnExamples):
        return _one_by_one(tasks, split, predict, size)
    tally: _Kept | _Streamed | None = None
    for chunk in split.chunks(size):
        predicted = predict(chunk.inputs)
        if tally is None:
            bytes_each = sum(p.numel() * p.element_size() for p in predicted.values()) / len(chunk)
            tally = _Kept(tasks, len(split)) if bytes_each * len(split) <= _HELD else _Streamed(tasks)
        tally.update(predicted, chunk)
    assert tally is not None  # a split has examples
    return tally.results()


def _one_by_one(
    tasks: Sequence[Sequence[Task]], split: OwnExamples, predict: Callable[[Any], Mapping[str, Tensor]], size: int
) -> list[Measured]:
    """Of tasks that have their own examples, each on these."""
    found = [Measured({}, {}, "") for _ in tasks]
    for place, task in enumerate(tasks[0]):

        def of_task(inputs: Any, name: str = task.name) -> Mapping[str, Tensor]:
            return predict({name: inputs})

        each = measure_members([[own[place]] for own in tasks], split.of_task(task.name), of_task, size)
        found = [
            Measured(now.losses | new.losses, now.metrics | new.metrics, now.failure or new.failure)
            for now, new in zip(found, each, strict=True)
        ]
    return found


class _Kept:
    """Predictions for all examples, which are measured together."""

    def __init__(self, tasks: Sequence[Sequence[Task]], examples: int) -> None:
        self._tasks, names = tasks, [task.name for task in tasks[0]]
        self._predictions = {name: Gathered(examples, axis=1) for name in names}
        self._targets = {name: Gathered(examples) for name in names}

    def update(self, predicted: Mapping[str, Tensor], chunk: Split) -> None:
        for name, gathered in self._predictions.items():
            gathered.add(predicted[name])
            self._targets[name].add(chunk.targets[name])

    def results(self) -> list[Measured]:
        every = {name: gathered.whole() for name, gathered in self._predictions.items()}
        split = Split(None, {name: labels.whole() for name, labels in self._targets.items()})
        return [
            measure(own, {name: prediction[row] for name, prediction in every.items()}, split)
            for row, own in enumerate(self._tasks)
        ]


class _Streamed:
    """Sums over examples, of predictions that would be too many to hold; losses are means over labels."""

    def __init__(self, tasks: Sequence[Sequence[Task]]) -> None:
        self._tasks = tasks
        self._losses = [{task.name: [0.0, 0] for task in own} for own in tasks]
        self._metrics = [{task.name: [(m, m.begin()) for m in task.metrics] for task in own} for own in tasks]
        self._failures: list[dict[tuple[str, str], str]] = [{} for _ in tasks]

    def update(self, predicted: Mapping[str, Tensor], chunk: Split) -> None:
        for row, own in enumerate(self._tasks):
            for task in own:
                prediction, labels = predicted[task.name][row], chunk.targets[task.name]
                if count := int(known(labels).sum()):
                    total = self._losses[row][task.name]
                    total[0] += float(loss_of(measure_of(task.loss), prediction, labels)) * count
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

    def _tried(self, row: int, task: Task, metric: Metric, function: Callable[[], float | None]) -> float:
        """A step of a metric; one that has raised an error is left alone and is NaN."""
        failures, key = self._failures[row], (task.name, metric.name)
        if key in failures:
            return math.nan
        try:
            value = _guarded(metric, task, function)
        except MetricFailed as error:
            failures[key] = str(error)
            return math.nan
        return math.nan if value is None else value


def measure(tasks: Sequence[Task], predictions: Mapping[str, Tensor], split: Examples) -> Measured:
    """Loss and metrics of each task from predictions for a whole split."""
    losses = {name: float(loss) for name, loss in task_losses(tasks, predictions, split).items()}
    metrics: Metrics = {task.name: {} for task in tasks}
    failures = []
    for task in tasks:
        for metric in task.metrics:
            try:
                value = _guarded(metric, task, partial(metric, predictions[task.name], split.targets[task.name]))
            except MetricFailed as error:
                failures.append(str(error))
                value = math.nan
            metrics[task.name][metric.name] = value
    return Measured(losses, metrics, failures[0] if failures else "")


def value_of(metric: Metric, task: Task, predict: Callable[[int, Tensor], Tensor], split: Examples) -> float:
    """One metric of one task on the labels of a split; `MetricFailed` tells whose error it is.

    Args:
        metric: of the task.
        task: whose labels they are.
        predict: from the place of the first of some labels and these (n, ...) to predictions for them.
        split: with all labels.
    """
    labels = split.targets[task.name]
    each = labels[:1].numel() * task.outputs
    if each * len(labels) <= _NUMBERS:
        return _guarded(metric, task, lambda: metric(predict(0, labels), labels))
    accumulator, place = metric.begin(), 0
    for some in labels.split(max(1, _NUMBERS // (8 * each))):
        _guarded(metric, task, lambda some=some, at=place: accumulator.update(predict(at, some), some))  # type: ignore[misc]
        place += len(some)
    return _guarded(metric, task, accumulator.compute)


def _guarded(metric: Metric, task: Task, function: Callable[[], _Value]) -> _Value:
    try:
        return function()
    except Exception as error:  # a metric of a user's may raise anything
        raise MetricFailed(f"metric {metric.name!r} of task {task.name!r} raises {in_one_line(error)}") from error


def constant_metrics(tasks: Sequence[Task], fitted_on: Examples, measured_on: Examples) -> Metrics:
    """Metrics of the best prediction without inputs, by the benchmark's own losses: the reference of the skill score.

    NaN where a metric has no value for such a prediction, as a correlation has none, or raises an error for it.
    """
    found: Metrics = {}
    for task in tasks:
        fitted, labels = (split.targets[task.name] for split in (fitted_on, measured_on))
        guess = constant_prediction(task.yardstick, fitted, labels, task.outputs)

        def constant(start: int, some: Tensor, guess: Tensor = guess) -> Tensor:
            return guess[start : start + len(some)]

        found[task.name] = {metric.name: value_or_nan(metric, task, constant, measured_on) for metric in task.metrics}
    return found


def value_or_nan(metric: Metric, task: Task, predict: Callable[[int, Tensor], Tensor], split: Examples) -> float:
    """One metric of one task; NaN where it raises an error."""
    try:
        return value_of(metric, task, predict, split)
    except MetricFailed:
        return math.nan


def selection(tasks: Sequence[Task], metrics: Metrics, reference: Mapping[str, Mapping[str, float]]) -> float:
    """Mean skill of the tasks: the best checkpoint has the highest; -inf where a metric that judges is not finite.

    Args:
        tasks: all that count.
        metrics: of a model.
        reference: by task, the metrics that can judge it, with their values without skill; the first one does.
    """
    total = 0.0
    for task in tasks:
        judge = judging(task, reference)
        skill = judge.skill(metrics[task.name][judge.name], reference[task.name][judge.name])
        total += skill if math.isfinite(skill) else -math.inf
    return total / len(tasks)


def judging(task: Task, reference: Mapping[str, Mapping[str, float]]) -> Metric:
    """The metric by which the runs of a task are selected."""
    return next(metric for metric in task.metrics if metric.name in reference[task.name])


def undefined(tasks: Sequence[Task], metrics: Metrics, reference: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The metrics that judge the tasks and are not finite, as TASK/METRIC."""
    judges = [(task.name, judging(task, reference).name) for task in tasks]
    return [f"{task}/{name}" for task, name in judges if not math.isfinite(metrics[task][name])]
