"""Which losses a strategy weighs: one of each task, or one of each part of a sum that is to be weighed apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mtl.benchmarks.benchmark import Task
from mtl.losses import Loss, losses_of


def tasks_of_losses(tasks: Sequence[Task]) -> dict[str, str]:
    """The losses that a strategy weighs, in their order: by name, the task whose loss or part of a loss it is.

    A task's loss has the name of the task, a part of it `TASK.PART`, such as `depth.mae`.

    Args:
        tasks: with their losses.

    Raises:
        ValueError: two losses would have one name; one line.
    """
    found: dict[str, str] = {}
    for task in tasks:
        for name in _names(task):
            if name in found:
                both = f"of tasks {found[name]!r} and {task.name!r}"
                raise ValueError(f"two losses to weigh are named {name!r}, {both}: rename one of the tasks")
            found[name] = task.name
    return found


def weighed_losses(
    tasks: Sequence[Task], predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The losses that a strategy weighs on a batch, under the names and in the order of `tasks_of_losses`."""
    return {
        name: loss
        for task in tasks
        for name, loss in zip(
            _names(task), losses_of(task.loss, predictions[task.name], targets[task.name]), strict=True
        )
    }


def _names(task: Task) -> list[str]:
    apart = task.loss.apart if isinstance(task.loss, Loss) else ()
    return [f"{task.name}.{part}" for part in apart] or [task.name]
