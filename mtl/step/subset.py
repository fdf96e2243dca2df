"""A strategy on some of its tasks: those that a batch has, where others are absent.

The strategy sees and weighs these as if there were no others, with what its state holds of them. What it holds of the
absent ones stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.hyperparameters import domains
from mtl.strategies.strategy import Signals, Strategy

#: The signals that can be cut down to some tasks; all others are measured on several batches or by coordinate.
DIVISIBLE = frozenset({"losses", "gramian", "noise", "epoch"})


def restricted(strategy: Strategy, tasks: Sequence[int], total: int) -> Strategy:
    """The strategy for the tasks at those indices out of `total`: of hyperparameters with a number a task, theirs.

    Raises:
        ValueError: a hyperparameter names a task by its index, or all that is left of one is zero.
    """
    changes: dict[str, Any] = {}
    known = domains(strategy)
    for field in dataclasses.fields(strategy):
        value = getattr(strategy, field.name)
        if not field.init:  # made from the other fields
            continue
        if isinstance(value, Strategy):
            changes[field.name] = restricted(value, tasks, total)
        elif isinstance(value, tuple) and any(isinstance(part, Strategy) for part in value):
            changes[field.name] = tuple(restricted(part, tasks, total) for part in value)
        elif field.name in known and known[field.name].tasks == "index":
            raise ValueError(f"{strategy}: {field.name} names a task by its index; it cannot use absent='subset'")
        elif field.name in known and known[field.name].tasks and len(value) == total > 1:
            changes[field.name] = tuple(value[task] for task in tasks)
    return dataclasses.replace(strategy, **changes) if changes else strategy


class SubsetStep:
    """Steps of a strategy on some of its tasks.

    Args:
        strategy: that of all tasks.
        losses: (K,) of all tasks, for their number, type and device.

    Raises:
        ValueError: the strategy cannot be cut down to some of its tasks.
    """

    def __init__(self, strategy: Strategy, losses: Tensor) -> None:
        self._strategy, self._total = strategy, len(losses)
        fewer = restricted(strategy, range(self._total - 1), self._total).init(losses[:-1])
        #: The axes of each tensor of a state that have a place for each task.
        self._axes = [
            tuple(axis for axis, (few, all_) in enumerate(zip(small.shape, large.shape, strict=True)) if few != all_)
            for small, large in zip(pytree.tree_leaves(fewer), pytree.tree_leaves(strategy.init(losses)), strict=True)
        ]
        self._restricted: dict[tuple[int, ...], Strategy] = {}

    def __call__(self, state: Any, signals: Signals, tasks: Sequence[int], new: Sequence[int]) -> tuple[Tensor, Any]:
        """One step.

        Args:
            state: of all K tasks.
            signals: losses (K,) and noise (K, K) of all tasks, the Gramian of those at hand.
            tasks: indices of the tasks at hand, ascending.
            new: those of them that no step has had before. What a strategy remembers of a first step, such as the
                first loss, it remembers of them now.

        Returns:
            Weights of the tasks at hand, and the state of all.
        """
        strategy = self._on(tasks)
        at = torch.tensor(tasks, device=signals["losses"].device)
        seen = dict(signals)
        seen["losses"] = signals["losses"][at]
        if "noise" in signals:
            seen["noise"] = signals["noise"][at][:, at]
        leaves, form = pytree.tree_flatten(state)
        some = [_taken(leaf, axes, at) for leaf, axes in zip(leaves, self._axes, strict=True)]
        if new:
            places = torch.tensor([list(tasks).index(task) for task in new], device=at.device)
            first = pytree.tree_leaves(strategy(strategy.init(seen["losses"]), seen)[1])
            some = [
                _with_rows(leaf, axes, places, fresh) for leaf, axes, fresh in zip(some, self._axes, first, strict=True)
            ]
        weights, after = strategy(pytree.tree_unflatten(some, form), seen)
        merged = [
            _put(leaf, axes, at, part)
            for leaf, axes, part in zip(leaves, self._axes, pytree.tree_leaves(after), strict=True)
        ]
        return weights, pytree.tree_unflatten(merged, form)

    def _on(self, tasks: Sequence[int]) -> Strategy:
        key = tuple(tasks)
        if key not in self._restricted:
            self._restricted[key] = restricted(self._strategy, tasks, self._total)
        return self._restricted[key]


def _taken(leaf: Tensor, axes: Sequence[int], at: Tensor) -> Tensor:
    for axis in axes:
        leaf = leaf.index_select(axis, at)
    return leaf


def _put(leaf: Tensor, axes: Sequence[int], at: Tensor, part: Tensor) -> Tensor:
    """`leaf` with `part` at those places of its task axes; `part` itself where it has none."""
    if not axes:
        return part
    merged = leaf.clone()
    grid = torch.meshgrid(*[at] * len(axes), indexing="ij")
    moved = merged.movedim(tuple(axes), tuple(range(len(axes))))
    moved[grid] = part.movedim(tuple(axes), tuple(range(len(axes))))
    return merged


def _with_rows(leaf: Tensor, axes: Sequence[int], places: Tensor, fresh: Tensor) -> Tensor:
    """`leaf` with all that concerns the tasks at `places` from `fresh`."""
    merged = leaf.clone() if axes else leaf
    for axis in axes:
        merged.index_copy_(axis, places, fresh.index_select(axis, places))
    return merged
