"""Collecting: the losses of a batch in the order of the tasks, and which of them can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtl.graph import branch, branches

Losses = Tensor | Mapping[str, Tensor]
#: Replaces tensors by their means over all processes, in place.
Average = Callable[[Sequence[Tensor]], None]


class Collected(NamedTuple):
    """A batch's losses.

    Attributes:
        present: the losses with their graph: the finite ones, or all that are not absent where the host did not look.
        tasks: their indices.
        values: all K values, detached and float32 at least; NaN where a task is absent.
        absent: number of tasks that the batch lacks.
        joint: the losses as one tensor (K,), if they were given so.
    """

    present: list[Any]
    tasks: list[int]
    values: Tensor
    absent: int
    joint: Tensor | None

    @property
    def whole(self) -> bool:
        """Whether every task has a finite loss."""
        return len(self.present) == len(self.values)


def collect(
    losses: Losses,
    tasks: Sequence[str] | None,
    num_tasks: int | None,
    *,
    look: bool = True,
    average: Average | None = None,
) -> Collected:
    """Order and check the losses of a batch.

    Args:
        losses: (K,) tensor or a dict of scalars by task name.
        tasks: names of all tasks, for a dict.
        num_tasks: checked when given.
        look: find the losses that are not finite, which makes the host wait for the device.
        average: replaces the values by their means over all processes.
    """
    joint = None
    given: list[Any]
    if isinstance(losses, Mapping):
        if not losses:
            raise ValueError("losses are empty")
        given, values = _named(losses, tasks or [])
        given = [None if loss is None else branch(loss) for loss in given]
    else:
        if losses.ndim != 1:
            raise ValueError(f"losses have shape {tuple(losses.shape)}; one loss a task is wanted, (K,)")
        values = losses.detach().to(torch.promote_types(losses.dtype, torch.float32))
        joint, given = losses, branches(losses)
    if num_tasks is not None and len(given) != num_tasks:
        raise ValueError(f"{len(given)} losses were given for {num_tasks} tasks")
    if average is not None:
        values = values.clone()
        average([values])
    index = [k for k, loss in enumerate(given) if loss is not None]
    if look:
        finite = values.isfinite().tolist()
        index = [k for k in index if finite[k]]
    if torch.is_grad_enabled():
        for k in index:
            loss = given[k]
            if isinstance(loss, Tensor) and not loss.requires_grad:
                name = repr(tasks[k]) if tasks else str(k)
                raise ValueError(
                    f"the loss of task {name} does not require grad, as it depends on no parameter: leave the task "
                    "out, or check for detach(), no_grad() or frozen parameters on its way"
                )
    absent = sum(loss is None for loss in given)
    return Collected([given[k] for k in index], index, values, absent, joint)


def names(losses: Mapping[str, Tensor], num_tasks: int | None) -> list[str]:
    """The names of all tasks, from the first dict of losses."""
    if num_tasks is not None and len(losses) != num_tasks:
        raise ValueError(
            f"the first losses name {len(losses)} of {num_tasks} tasks: give Balancer all names as tasks=[...]"
        )
    return list(losses)


def _named(losses: Mapping[str, Tensor], tasks: Sequence[str]) -> tuple[list[Any], Tensor]:
    """The losses in the order of the tasks, None where absent, and their values."""
    for name in losses:
        if name not in tasks:
            raise ValueError(f"losses name an unknown task {name!r}; the tasks are {', '.join(tasks)}")
    given = [_scalar(losses[name]) if name in losses else None for name in tasks]
    some = next(iter(losses.values()))
    absent = torch.full((), torch.nan, dtype=some.dtype, device=some.device)
    values = torch.stack([absent if loss is None else loss.detach() for loss in given])
    return given, values.to(torch.promote_types(values.dtype, torch.float32))


def _scalar(loss: Tensor) -> Tensor:
    return loss if loss.ndim == 0 else loss.reshape(())
