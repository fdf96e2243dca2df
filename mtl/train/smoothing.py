"""Label smoothing of all classification tasks at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mtl.benchmarks.benchmark import Task
from mtl.hyperparameters import domains
from mtl.losses import Loss

_KEY = "label_smoothing"


def smoothed(tasks: Sequence[Task], share: float) -> list[Task]:
    """The tasks with label smoothing in each loss that can have some and has none of its own.

    Args:
        tasks: with their losses.
        share: of the target, spread over all classes.
    """
    return [_smoothed(task, share) for task in tasks] if share else list(tasks)


def check_smoothing(tasks: Sequence[Task], share: float) -> None:
    """Raise `ValueError` for label smoothing that no loss of the tasks can have."""
    if share and not takes_smoothing(tasks):
        losses = ", ".join(f"{task.name}: {task.loss}" for task in tasks)
        raise ValueError(f"label_smoothing={share:g}: no loss has label smoothing, as cross-entropy has ({losses})")


def takes_smoothing(tasks: Sequence[Task]) -> bool:
    """Whether a loss of the tasks can have label smoothing."""
    return any(_keys(task) for task in tasks)


def _keys(task: Task) -> list[str]:
    """The names of the hyperparameter in a loss; in a sum that of a part stands before it."""
    names = domains(task.loss) if isinstance(task.loss, Loss) else {}
    return [name for name in names if name == _KEY or name.endswith(f"_{_KEY}")]


def _smoothed(task: Task, share: float) -> Task:
    changed = {name: share for name in _keys(task) if not getattr(task.loss, name)}
    if not changed:
        return task
    return dataclasses.replace(task, loss=dataclasses.replace(task.loss, **changed))  # type: ignore[type-var]
