from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.strategies.combinators.wrapper import Wrapper
from mtl.strategies.strategy import Signals


@dataclass(frozen=True)
class Normalize(Wrapper):
    """The inner weights scaled so that their absolute values sum to the number of tasks."""

    name: ClassVar[str] = "normalize"

    def __call__(self, state: Any, signals: Signals) -> tuple[Tensor, Any]:
        weights, state = self.inner(state, signals)
        return sum_to_k(weights), state

    def current(self, state: Any, signals: Signals) -> Tensor:
        return sum_to_k(self.inner.current(state, signals))


def sum_to_k(weights: Tensor) -> Tensor:
    """Scale weights (K,) to sum |w_k| = K, elementwise ones (K, D) to that sum on average; all zeros stay zero."""
    total = weights.abs().sum(0)
    if total.ndim:
        total = total.mean()
    number = weights.shape[0]
    return weights / (total.clamp(min=number * torch.finfo(weights.dtype).tiny) / number)
