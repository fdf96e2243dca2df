"""Collecting: the losses of a batch in the order of the tasks, and which of them can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtl.graph import Output, branches

Losses = Tensor | Mapping[str, Tensor]


class Collected(NamedTuple):
    """A batch's losses.

    Attributes:
        present: the finite losses with their graph.
        tasks: their indices.
        total: the (K,) losses with their graph, where they were given so.
        values: all K values, detached and float32 at least; NaN where a task is absent.
        absent: number of tasks that the batch lacks.
    """

    present: list[Output]
    tasks: list[int]
    total: Tensor | None
    values: Tensor
    absent: int

    @property
    def whole(self) -> bool:
        """Whether every task has a finite loss."""
        return len(self.present) == len(self.values)

    def averaged(self, mean: Callable[[Tensor], Tensor]) -> Collected:
        """With the mean values over processes; a task that any of them lacks is absent from all."""
        values = mean(self.values)
        finite = values.isfinite().tolist()
        kept = [(loss, task) for loss, task in zip(self.present, self.tasks, strict=True) if finite[task]]
        return self._replace(present=[loss for loss, _ in kept], tasks=[task for _, task in kept], values=values)

    @property
    def tensors(self) -> list[Tensor]:
        """The finite losses of a dict, with their graph."""
        return [loss for loss in self.present if isinstance(loss, Tensor)]


def collect(losses: Losses, tasks: Sequence[str] | None, num_tasks: int | None) -> Collected:
    """Order and check the losses of a batch.

    Args:
        losses: (K,) tensor or a dict of scalars by task name.
        tasks: names of all tasks, for a dict.
        num_tasks: checked when given.
    """
    if isinstance(losses, Mapping):
        if not losses:
            raise ValueError("losses are empty")
        given, values = _named(losses, tasks or [])
    else:
        if losses.ndim != 1:
            raise ValueError(f"losses have shape {tuple(losses.shape)}; one loss a task is wanted, (K,)")
        values = losses.detach().to(torch.promote_types(losses.dtype, torch.float32))
        given = branches(losses)
    if num_tasks is not None and len(given) != num_tasks:
        raise ValueError(f"{len(given)} losses were given for {num_tasks} tasks")
    finite = values.isfinite().tolist()
    index = [k for k in range(len(given)) if finite[k]]
    for k in index:
        if torch.is_grad_enabled() and isinstance(given[k], Tensor) and not given[k].requires_grad:
            name = repr(tasks[k]) if tasks else str(k)
            raise ValueError(f"the loss of task {name} does not require grad: it depends on no parameter")
    absent = sum(loss is None for loss in given)
    total = losses if isinstance(losses, Tensor) else None
    return Collected([given[k] for k in index], index, total, values, absent)


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
    given = [losses[name].reshape(()) if name in losses else None for name in tasks]
    some = next(iter(losses.values()))
    absent = torch.full((), torch.nan, dtype=some.dtype, device=some.device)
    values = torch.stack([absent if loss is None else loss.detach() for loss in given])
    return given, values.to(torch.promote_types(values.dtype, torch.float32))
