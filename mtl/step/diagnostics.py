"""What the Gramian of a step tells: how large task gradients are, which conflict, whom the update serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtl.step.measure import NEEDS_GRADIENTS
from mtl.strategies.strategy import Strategy


class Diagnostics(NamedTuple):
    """Of the last step that measured task gradients; K counts its tasks. All tensors stay on the device.

    Attributes:
        tasks: names of the tasks, or their indices.
        norms: (K,) of the task gradients.
        cosines: (K, K) between the task gradients; zero where one is zero.
        conflicts: () pairs of tasks whose gradients point apart (cosine below zero).
        condition: () of the Gramian, its largest eigenvalue over its smallest; infinite where gradients depend linearly
            on each other.
        update_norm: () of the update `sum_k w_k g_k`.
        update_cosines: (K,) between that update and the task gradients: below zero, the step raises the task's loss.
            This and `update_norm` are None where the update is no such sum: weights by coordinate, kept gradients.
    """

    tasks: tuple[str, ...] | tuple[int, ...]
    norms: Tensor
    cosines: Tensor
    conflicts: Tensor
    condition: Tensor
    update_norm: Tensor | None
    update_cosines: Tensor | None


class LatestGramians:
    """Keeps what the diagnostics are made of: the Gramians of the step that measured some last.

    Args:
        strategy: that of the steps.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._seen: tuple[Tensor, Tensor | None, list[int]] | None = None

    def note(self, gramians: Tensor, weights: Tensor, tasks: list[int]) -> None:
        """A step has measured Gramians.

        Args:
            gramians: (blocks, K, K) of the tasks at hand.
            weights: of all tasks, (K,), (K, D) or (blocks, K).
            tasks: which are at hand.
        """
        applied: Tensor | None = None
        # Weights by coordinate, or of gradients that the strategy keeps, make no sum of this step's gradients.
        if not (self._strategy.tracking or (self._strategy.elementwise and weights.ndim == 2)):
            applied = weights if len(tasks) == weights.shape[-1] else weights[..., tasks]
            applied = applied if applied.ndim == 2 else applied[None]
        self._seen = gramians, applied, tasks

    def diagnose(self, names: Sequence[str] | None) -> Diagnostics:
        """The diagnostics of that step; names are those of all tasks, if they have any.

        Raises:
            RuntimeError: there was none.
        """
        if self._seen is None:
            raise RuntimeError(
                f"no step has measured task gradients: {self._strategy} "
                + ("has made none yet" if self._strategy.needs & NEEDS_GRADIENTS else "reads none")
            )
        gramians, weights, tasks = self._seen
        return diagnose(gramians, weights, tuple(tasks) if names is None else tuple(names[task] for task in tasks))


def diagnose(gramians: Tensor, weights: Tensor | None, tasks: tuple[str, ...] | tuple[int, ...]) -> Diagnostics:
    """The diagnostics of Gramians (blocks, K, K) under weights (blocks, K), or under None that apply to them."""
    gramian = gramians.sum(0)
    norms = gramian.diagonal().clamp(min=0).sqrt()
    cosines = _over(gramian, norms[:, None] * norms)
    smallest, largest = torch.linalg.eigvalsh(gramian.double())[[0, -1]].unbind()
    rounding = gramian.shape[-1] * torch.finfo(gramian.dtype).eps * largest
    condition = torch.where(smallest > rounding, largest / smallest, torch.inf).to(gramian.dtype)
    update_norm = update_cosines = None
    if weights is not None:
        # The update has a part in each block; inner products add up over them.
        products = torch.einsum("bkj,bj->bk", gramians, weights)
        update_norm = (weights * products).sum().clamp(min=0).sqrt()
        update_cosines = _over(products.sum(0), norms * update_norm)
    pairs = cosines.triu(1) < 0
    return Diagnostics(tasks, norms, cosines, pairs.sum(), condition, update_norm, update_cosines)


def _over(products: Tensor, lengths: Tensor) -> Tensor:
    """Cosines; zero where a length is, as such a gradient has no direction."""
    return torch.where(lengths > 0, products / lengths, 0).clamp(-1, 1)
