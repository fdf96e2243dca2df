"""What the skill of a run refers to, and which metrics are defined on a split."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Examples, Task
from mtl.losses import over_outputs, takes_classes
from mtl.losses.labels import known
from mtl.metrics import Metric
from mtl.train.evaluate import constant_metrics, value_or_nan
from mtl.train.tally import Metrics

_LEAST = 1e-9  # mean that stands for one of 0, which has no logarithm


def perfect_prediction(task: Task, labels: Tensor) -> Tensor:
    """Predictions for `labels` that are right: the labels themselves, or 1 for the right class and 0 for the others.

    Where metrics read logarithms they are those of the labels.
    """
    there = known(labels)
    if any(metric.logarithms for metric in task.metrics):
        return torch.where(there, labels, 0).to(torch.get_default_dtype()).clamp(min=_LEAST).log()
    if not takes_classes(task.yardstick, labels, task.outputs):
        return over_outputs(torch.where(there, labels, 0).to(torch.get_default_dtype()), task.outputs)
    classes = torch.where(there, labels, 0)
    return nn.functional.one_hot(classes, task.outputs).to(torch.get_default_dtype())


def defined(metric: Metric, task: Task, split: Examples) -> bool:
    """Whether a metric has a value on a split for right predictions: AUC has none where all labels are of one class."""

    def right(_start: int, labels: Tensor) -> Tensor:
        return perfect_prediction(task, labels)

    return math.isfinite(value_or_nan(metric, task, right, split))


def references(tasks: Sequence[Task], fitted_on: Examples, measured_on: Examples) -> tuple[Metrics, list[str]]:
    """What the skill of each task refers to, and what a user should know of it.

    Runs are selected by the first metric of each task that can judge. Its value without skill is that of the constant
    prediction that is best under the benchmark's own loss, so that runs with other losses are measured alike; where
    that has none, as a correlation has none, it is 0, which makes the skill a share of perfection. A metric cannot
    judge that is undefined on the split, or perfect for a constant prediction: a network that has learnt nothing would
    do best.

    Args:
        tasks: all that count.
        fitted_on: the training split.
        measured_on: the validation split.

    Returns:
        By task and metric the value without skill, of metrics that can judge; and remarks on tasks that are not judged
        by their first metric and a constant prediction.

    Raises:
        ValueError: a task has no metric that can judge; one line.
    """
    found: Metrics = {}
    remarks = []
    for name, values in constant_metrics(tasks, fitted_on, measured_on).items():
        task = next(task for task in tasks if task.name == name)
        each = [(metric.name, *_reference(metric, task, values[metric.name], measured_on)) for metric in task.metrics]
        found[name] = {metric: reference for metric, reference, _ in each if reference is not None}
        if not found[name]:
            reasons = "; ".join(f"{metric!r} {reason}" for metric, _, reason in each)
            raise ValueError(f"task {name!r} has no metric that can judge runs on the validation split: {reasons}")
        if each[0][2]:
            judge = next(iter(found[name]))
            said = f"metric {each[0][0]!r} {each[0][2]}"
            remarks.append(f"task {name!r}, validation split: {said}; runs are selected by {judge!r}")
    return found, remarks


def _reference(metric: Metric, task: Task, constant: float, split: Examples) -> tuple[float | None, str]:
    """The value without skill, or None where the metric cannot judge, and what is unusual about it."""
    if constant == metric.perfect:
        return None, "is perfect for a constant prediction"
    if math.isfinite(constant):
        return constant, ""
    if not defined(metric, task, split):
        return None, f"is undefined: {one_sided(task, split)}"
    without = "has no value for a constant prediction"
    if metric.perfect == 0:
        return None, without
    return 0.0, f"{without}, so skill is its share of {metric.perfect:g}"


def one_sided(task: Task, split: Examples) -> str:
    """What may make a metric undefined: no label, or labels that are all the same."""
    labels = split.targets[task.name]
    labels = labels[known(labels)]
    if len(labels) == 0:
        return "no label is there"
    if bool((labels == labels[0]).all()):
        return f"all {len(labels)} labels are {labels[0].item():g}"
    return f"even right predictions of the {len(labels)} labels have no value"
