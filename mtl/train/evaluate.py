"""Losses, metrics and the selection score of a model on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Examples, Task
from mtl.benchmarks.own import OwnExamples
from mtl.losses import constant_prediction
from mtl.metrics import Metric
from mtl.train.model import predictions
from mtl.train.tally import Kept, Measured, MetricFailed, Metrics, Streamed, can_be_kept, division, guarded

CHUNK = 4096  # examples of an evaluation at once, over all models
_NUMBERS = 2**25  # numbers that a metric of given predictions gets at once


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
def measure_model(model: nn.Module, tasks: Sequence[Task], split: Examples, folds: int = 0) -> Measured:
    """The same, where a metric that raises an error is NaN and told of.

    Args:
        model: that is measured.
        tasks: with their metrics.
        split: the examples.
        folds: see `measure_members`.
    """
    was_training = model.training
    model.eval()

    def predict(inputs: Any) -> dict[str, Tensor]:
        found = predictions(model, inputs, own=isinstance(split, OwnExamples))
        return {task: predicted[None] for task, predicted in found.items()}

    (found,) = measure_members([tasks], split, predict, CHUNK, folds)
    model.train(was_training)
    return found


def measure_members(
    tasks: Sequence[Sequence[Task]],
    split: Examples,
    predict: Callable[[Any], Mapping[str, Tensor]],
    size: int,
    folds: int = 0,
) -> list[Measured]:
    """Loss and metrics over a whole split, of many models at once.

    Of predictions that are too many to hold, metrics are summed up as they come.

    Args:
        tasks: of each model.
        split: the examples.
        predict: from inputs of some examples to predictions (N, n, ...) by task. Where tasks have their own examples
            it gets inputs by task, of one task at a time.
        size: examples at once.
        folds: into which the examples are divided at random, always in the same way, for metrics without each of them;
            of tasks with their own examples, those of each. None where there are not two examples for each fold.
    """
    if isinstance(split, OwnExamples):
        return _one_by_one(tasks, split, predict, size, folds)
    tally: Kept | Streamed | None = None
    for chunk in split.chunks(size):
        predicted = predict(chunk.inputs)
        if tally is None:
            fold = division(len(split), folds)
            kept = can_be_kept(predicted, len(chunk), len(split))
            tally = Kept(tasks, fold, len(split)) if kept else Streamed(tasks, fold)
        tally.update(predicted, chunk)
    assert tally is not None  # a split has examples
    return tally.results()


def _one_by_one(
    tasks: Sequence[Sequence[Task]],
    split: OwnExamples,
    predict: Callable[[Any], Mapping[str, Tensor]],
    size: int,
    folds: int,
) -> list[Measured]:
    """Of tasks that have their own examples, each on these."""
    found: list[Measured] = []
    for place, task in enumerate(tasks[0]):

        def of_task(inputs: Any, name: str = task.name) -> Mapping[str, Tensor]:
            return predict({name: inputs})

        each = measure_members([[own[place]] for own in tasks], split.of_task(task.name), of_task, size, folds)
        found = [now.joined(new) for now, new in zip(found, each, strict=True)] if found else each
    return found


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
        return guarded(metric, task, lambda: metric(predict(0, labels), labels))
    accumulator, place = metric.begin(), 0
    for some in labels.split(max(1, _NUMBERS // (8 * each))):
        guarded(metric, task, lambda some=some, at=place: accumulator.update(predict(at, some), some))  # type: ignore[misc]
        place += len(some)
    return guarded(metric, task, accumulator.compute)


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
