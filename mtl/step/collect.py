"""Collecting: the losses of a batch in the order of the tasks, and which of them can be used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mtl.gradients.graph import branch, branches
from mtl.gradients.pieces import Average, widened
from mtl.messages import kind_of

#: One tensor (K,), a scalar a task by name, or a scalar a task in a fixed order (None where it is absent).
Losses = Tensor | Mapping[str, Tensor] | Sequence[Tensor | None]
#: Up to so many values are read sooner than an operation on them is started.
_FEW = 64
_ABSENT = "where a batch has no labels for a task, leave it out of the dict"


class Collected:
    """A batch's losses.

    Args:
        given: the losses with their graph: one tensor (K,), or a loss a task, None where absent.
        tasks: indices of those that can be used: the finite ones, or all that are there where the host did not look.
        values: all K values, detached and float32 at least; NaN where a task is absent.
        names: of the tasks, if they have any.

    Attributes:
        whole: whether every task can be used.
    """

    def __init__(
        self, given: Tensor | list[Any], tasks: list[int], values: Tensor, names: Sequence[str] | None
    ) -> None:
        self.tasks, self.values = tasks, values
        self.whole = len(tasks) == values.shape[0]
        self._given, self._names = given, names

    @property
    def joint(self) -> Tensor | None:
        """The losses as one tensor (K,), if they were given so."""
        return self._given if isinstance(self._given, Tensor) else None

    @property
    def absent(self) -> int:
        """The number of tasks that the batch lacks."""
        return 0 if isinstance(self._given, Tensor) else sum(loss is None for loss in self._given)

    @cached_property
    def present(self) -> list[Any]:
        """The losses that can be used, each with its own graph; taken apart only where somebody asks.

        Raises:
            ValueError: one of them depends on no parameter.
        """
        each: list[Any] = branches(self._given) if isinstance(self._given, Tensor) else self._given
        for k in self.tasks:
            if isinstance(each[k], Tensor) and not each[k].requires_grad:
                raise _depends_on_nothing(k, self._names)
        return [each[k] for k in self.tasks]


class Collector:
    """Puts the losses of each batch in the order of the tasks, which the first ones name.

    Args:
        tasks: the names of all tasks, if known beforehand.
        num_tasks: their number, if known beforehand.
        look: find the losses that are not finite, which makes the host wait for the device.
        average: replaces the values by their means over all processes.
    """

    def __init__(
        self, tasks: Sequence[str] | None, num_tasks: int | None, *, look: bool, average: Average | None
    ) -> None:
        self.tasks = list(tasks) if tasks is not None else None
        self.num_tasks = num_tasks if num_tasks is not None else (len(self.tasks) if self.tasks else None)
        self._look, self._average = look, average

    def __call__(self, losses: Losses, *, differentiable: bool = True) -> Collected:
        """The losses of a batch; see `collect`."""
        if self.tasks is None and isinstance(losses, Mapping) and losses:
            self.tasks = names(losses, self.num_tasks)
        batch = collect(
            losses,
            self.tasks,
            self.num_tasks,
            look=self._look,
            average=self._average,
            differentiable=differentiable,
        )
        self.num_tasks = batch.values.shape[0]
        return batch


def collect(
    losses: Losses,
    tasks: Sequence[str] | None,
    num_tasks: int | None,
    *,
    look: bool = True,
    average: Average | None = None,
    differentiable: bool = True,
) -> Collected:
    """Order and check the losses of a batch.

    Args:
        losses: (K,) tensor, a dict of scalars by task name, or a list of scalars.
        tasks: names of all tasks, for a dict; a list has them in that order.
        num_tasks: checked when given.
        look: find the losses that are not finite, which makes the host wait for the device.
        average: replaces the values by their means over all processes.
        differentiable: whether they must depend on parameters.

    Raises:
        TypeError: a loss is no tensor; the message names its task.
        ValueError: a loss is no scalar, there is none, or they are not those of the tasks.
    """
    given: Tensor | list[Any]
    if isinstance(losses, list | tuple):
        if not losses:
            raise ValueError("losses are empty")
        named, values = _ordered(losses, tasks)
        given = [None if loss is None else branch(loss) for loss in named]
        there = [k for k, loss in enumerate(given) if loss is not None]
    elif isinstance(losses, Mapping):
        if not losses and not tasks:
            raise ValueError("losses are empty")
        named, values = _named(losses, tasks or [])
        given = [None if loss is None else branch(loss) for loss in named]
        there = [k for k, loss in enumerate(given) if loss is not None]
    else:
        if not isinstance(losses, Tensor):
            raise TypeError(
                f"losses are {kind_of(losses)}: give a tensor (K,), a dict of scalar tensors by task name, or "
                "a list of scalar tensors"
            )
        if losses.ndim != 1:
            raise ValueError(f"losses have shape {tuple(losses.shape)}; one loss a task is wanted, (K,)")
        values = widened(losses.detach().clone())  # a state may keep them
        given, there = losses, list(range(values.shape[0]))
        if there and differentiable and not losses.requires_grad:
            raise _depends_on_nothing(0, tasks)
    if num_tasks is not None and values.shape[0] != num_tasks:
        raise ValueError(f"{values.shape[0]} losses were given for {num_tasks} tasks")
    if average is not None:
        values = values.clone()
        average([values])
    if look and not all_finite(values):
        finite = values.isfinite().tolist()
        there = [k for k in there if finite[k]]
    return Collected(given, there, values, tasks)


def all_finite(values: Tensor) -> bool:
    """Whether every value is finite; makes the host wait for the device."""
    if values.numel() <= _FEW:
        return all(map(math.isfinite, values.flatten().tolist()))
    # A sum is finite only if all are, and costs a quarter of asking each; that it overflows is rare.
    return math.isfinite(float(values.sum())) or bool(values.isfinite().all())


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
        if not isinstance(name, str):
            raise TypeError(f"losses have a task named {name!r}, {kind_of(name)}: names of tasks are strings")
        if name not in tasks:
            raise ValueError(f"losses name an unknown task {name!r}; the tasks are {', '.join(tasks)}")
    given = [_scalar(losses[name], name) if name in losses else None for name in tasks]
    some = next(iter(losses.values()), torch.empty(()))  # a batch without a label of any task has no loss at all
    return given, _values(given, some)


def _values(given: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """(K,), NaN where a task is absent."""
    if any(loss is None for loss in given):
        absent = torch.full((), torch.nan, dtype=like.dtype, device=like.device)
        given = [absent if loss is None else loss for loss in given]
    return widened(torch.stack([loss.detach() for loss in given if loss is not None]))


def _ordered(losses: Sequence[Any], tasks: Sequence[str] | None) -> tuple[list[Any], Tensor]:
    """The same for losses in the order of the tasks."""
    names: Sequence[str | int] = tasks if tasks is not None and len(tasks) == len(losses) else range(len(losses))
    given = [None if loss is None else _scalar(loss, name) for name, loss in zip(names, losses, strict=True)]
    some = next((loss for loss in given if loss is not None), torch.empty(()))
    return given, _values(given, some)


def _scalar(loss: Any, task: str | int) -> Tensor:
    """A loss as a tensor ().

    Raises:
        TypeError: it is no tensor.
        ValueError: it has several elements.
    """
    if loss is None:
        raise TypeError(f"the loss of task {task!r} is None: {_ABSENT}")
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"the loss of task {task!r} is {loss!r}, {kind_of(loss)} and no tensor that depends on the model; "
            + _ABSENT
        )
    if loss.numel() != 1:
        raise ValueError(
            f"the loss of task {task!r} has shape {tuple(loss.shape)}: one number a task is wanted, such as its mean "
            "(reduction='mean')"
        )
    return loss if loss.ndim == 0 else loss.reshape(())


def _depends_on_nothing(task: int, names: Sequence[str] | None) -> ValueError:
    name = repr(names[task]) if names else str(task)
    return ValueError(
        f"the loss of task {name} does not require grad, as it depends on no parameter: leave the task out, or check "
        "for detach(), no_grad() or frozen parameters on its way"
    )
