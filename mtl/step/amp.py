"""Gradients under a `GradScaler`: their scale, and steps that it skipped after the fact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class LossScale:
    """The factor on losses, and what to go back to when the scaler finds a step's gradients infinite.

    `scaler.update()` then lowers the factor, and otherwise counts one more step, so both together tell whether it has
    been called and what it found. Until it is called nothing is known: what was before the step is kept, whoever reads
    the state meanwhile and however many micro-batches add to it.
    """

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        self._scaler = scaler
        self._mark: Tensor | None = None
        self._before: Any = None

    def of(self, like: Tensor) -> Tensor:
        """The factor as a tensor () on the device of `like`, float32."""
        scale: Tensor = self._scaler.scale(torch.ones((), device=like.device))
        return scale

    def one(self, like: Tensor) -> Tensor:
        """The factor in the dtype of `like`: what a loss's gradient by itself is taken to be."""
        return self.of(like).to(like.dtype)

    def begin(self, like: Tensor, state: Any) -> None:
        """Remember the state before the first step."""
        if self._mark is None:
            self._mark, self._before = self._now(like), state

    def forget(self) -> None:
        """Start anew: the steps made so far stand."""
        self._mark = self._before = None

    def settled(self, like: Tensor, state: Any, *, looks: bool) -> Any:
        """The state, or the one before the steps that the scaler has skipped since they were made.

        Args:
            like: a tensor on the device.
            state: a tree of tensors and of numbers that the host counts.
            looks: whether the host may wait for the device; otherwise its numbers stay as they are.
        """
        if self._mark is None:
            return state
        now, mark, before = self._now(like), self._mark, self._before
        self._mark = now
        lowered, called = now[0] < mark[0], (now != mark).any()
        if looks:
            if bool(called):
                self._before = before if bool(lowered) else state
            return before if bool(lowered) else state
        state = _chosen(lowered, before, state)
        self._before = _chosen(called, state, before)
        return state

    def _now(self, like: Tensor) -> Tensor:
        scale = self.of(like)
        counter = self._scaler._growth_tracker
        assert counter is not None  # once something has been scaled
        return torch.stack((scale, counter.to(scale)))


def _chosen(first: Tensor, one: Any, other: Any) -> Any:
    """The one tree of tensors where `first` () holds, else the other; numbers of the other."""
    return pytree.tree_map(
        lambda a, b: torch.where(first, a, b) if isinstance(b, Tensor) else b,
        one,
        other,
    )
