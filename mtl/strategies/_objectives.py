"""What strategies that minimise a scalar function of the losses share: positive losses, preferences, ideal points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_FLOOR = 1e-20


def positive(losses: Tensor) -> Tensor:
    """The losses kept above 1e-20, for logarithms and divisors."""
    return losses.clamp(min=_FLOOR)


def per_task(values: Sequence[float] | Tensor, losses: Tensor) -> Tensor:
    """One number a task as a tensor like `losses`; a single number serves all tasks."""
    return torch.as_tensor(values, dtype=losses.dtype, device=losses.device).expand_as(losses)


def on_simplex(preference: Sequence[float] | Tensor, losses: Tensor) -> Tensor:
    """The preference scaled to sum 1; equal shares when it is empty."""
    if not isinstance(preference, Tensor) and not preference:
        return torch.full_like(losses, 1 / losses.shape[-1])
    weights = per_task(preference, losses)
    return weights / weights.sum()
