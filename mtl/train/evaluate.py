"""Losses, metrics and the selection score of a model on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Examples, Split, Task
from mtl.benchmarks.checked import in_one_line
from mtl.losses import constant_prediction, loss_of
from mtl.metrics import Metric

Metrics = dict[str, dict[str, float]]

CHUNK = 4096  # examples of an evaluation at once, over all models


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


def task_losses(tasks: Sequence[Task], predictions: Mapping[str, Tensor], batch: Examples) -> dict[str, Tensor]:
    """The loss of each task on a batch."""
    return {task.name: loss_of(task.loss, predictions[task.name], batch.targets[task.name]) for task in tasks}


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
    (found,) = measure_members([tasks], split, lambda inputs: {t: p[None] for t, p in model(inputs).items()}, CHUNK)
    model.train(was_training)
    return found


def measure_members(
    tasks: Sequence[Sequence[Task]], split: Examples, predict: Callable[[Any], Mapping[str, Tensor]], size: int
) -> list[Measured]:
    """Loss and metrics over a whole split, of many models at once.

    Args:
        tasks: of each model.
        split: the examples.
        predict: from inputs of some examples to predictions (N, n, ...) by task.
        size: examples at once.
    """
    names = [task.name for task in tasks[0]]
    predictions: dict[str, list[Tensor]] = {name: [] for name in names}
    targets: dict[str, list[Tensor]] = {name: [] for name in names}
    for chunk in split.chunks(size):
        predicted = predict(chunk.inputs)
        for name in names:
            predictions[name].append(predicted[name])
            targets[name].append(chunk.targets[name])
    every = {name: torch.cat(parts, 1) for name, parts in predictions.items()}
    measured_on = Split(None, {name: torch.cat(parts) for name, parts in targets.items()})
    return [
        measure(own, {name: prediction[row] for name, prediction in every.items()}, measured_on)
        for row, own in enumerate(tasks)
    ]


def measure(tasks: Sequence[Task], predictions: Mapping[str, Tensor], split: Examples) -> Measured:
    """Loss and metrics of each task from predictions for a whole split."""
    losses = {name: float(loss) for name, loss in task_losses(tasks, predictions, split).items()}
    metrics: Metrics = {task.name: {} for task in tasks}
    failures = []
    for task in tasks:
        for metric in task.metrics:
            try:
                value = value_of(metric, task, predictions[task.name], split)
            except MetricFailed as error:
                failures.append(str(error))
                value = math.nan
            metrics[task.name][metric.name] = value
    return Measured(losses, metrics, failures[0] if failures else "")


def value_of(metric: Metric, task: Task, prediction: Tensor, split: Examples) -> float:
    """One metric of one task; `MetricFailed` tells whose error it is."""
    try:
        return metric(prediction, split.targets[task.name])
    except Exception as error:  # a metric of a user's may raise anything
        raise MetricFailed(f"metric {metric.name!r} of task {task.name!r} raises {in_one_line(error)}") from error


def constant_metrics(tasks: Sequence[Task], fitted_on: Examples, measured_on: Examples) -> Metrics:
    """Metrics of the best prediction without inputs: the reference of the skill score.

    NaN where a metric has no value for such a prediction, as a correlation has none, or raises an error for it.
    """
    found: Metrics = {}
    for task in tasks:
        fitted, labels = (split.targets[task.name] for split in (fitted_on, measured_on))
        guess = constant_prediction(task.loss, fitted, labels, task.outputs)
        found[task.name] = {metric.name: value_or_nan(metric, task, guess, measured_on) for metric in task.metrics}
    return found


def value_or_nan(metric: Metric, task: Task, prediction: Tensor, split: Examples) -> float:
    """One metric of one task; NaN where it raises an error."""
    try:
        return value_of(metric, task, prediction, split)
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
