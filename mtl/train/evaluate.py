"""Losses, metrics and the selection score of a model on a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Split, Task

Metrics = dict[str, dict[str, float]]

_CHUNK = 4096


def task_losses(tasks: Sequence[Task], predictions: Mapping[str, Tensor], batch: Split) -> dict[str, Tensor]:
    """The loss of each task on a batch."""
    return {task.name: task.loss(predictions[task.name], batch.targets[task.name]) for task in tasks}


@torch.no_grad()
def evaluate(model: nn.Module, tasks: Sequence[Task], split: Split) -> tuple[dict[str, float], Metrics]:
    """Loss and metrics of each task over a whole split, in evaluation mode."""
    was_training = model.training
    model.eval()
    pieces: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    for start in range(0, len(split), _CHUNK):
        for name, prediction in model(split.inputs[start : start + _CHUNK]).items():
            pieces[name].append(prediction)
    model.train(was_training)
    predictions = {name: torch.cat(parts) for name, parts in pieces.items()}
    losses = {name: float(loss) for name, loss in task_losses(tasks, predictions, split).items()}
    return losses, measure(tasks, predictions, split)


def measure(tasks: Sequence[Task], predictions: Mapping[str, Tensor], split: Split) -> Metrics:
    """The metrics of each task."""
    return {
        task.name: {metric.name: metric(predictions[task.name], split.targets[task.name]) for metric in task.metrics}
        for task in tasks
    }


def constant_metrics(tasks: Sequence[Task], fitted_on: Split, measured_on: Split) -> Metrics:
    """Metrics of the best input-free prediction: the reference of the skill score."""
    predictions = {}
    for task in tasks:
        row = task.constant(fitted_on.targets[task.name])
        padded = torch.full((task.outputs,), -1e9, device=row.device)
        padded[: len(row)] = row  # classes after the last one that occurs
        predictions[task.name] = padded.expand(len(measured_on), -1)
    return measure(tasks, predictions, measured_on)


def selection(tasks: Sequence[Task], metrics: Metrics, reference: Metrics) -> float:
    """Mean skill of the tasks' primary metrics: the best checkpoint has the highest. NaN is the worst."""
    total = 0.0
    for task in tasks:
        primary = task.metrics[0]
        skill = primary.skill(metrics[task.name][primary.name], reference[task.name][primary.name])
        total += skill if skill == skill else float("-inf")
    return total / len(tasks)
