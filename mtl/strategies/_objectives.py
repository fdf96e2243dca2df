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


def check_preference(name: str, preference: Sequence[float] | Tensor) -> None:
    """Raise `ValueError` for a preference of zeros."""
    if not isinstance(preference, Tensor) and preference and sum(preference) <= 0:
        raise ValueError(f"{name}: preference={preference} must not be all zero")


def check_length(name: str, key: str, values: Sequence[float] | Tensor, num_tasks: int, empty: bool) -> None:
    """Raise `ValueError` unless `values` has one number a task (or none if `empty`, or else a single one for all)."""
    given = values.shape[-1] if isinstance(values, Tensor) else len(values)
    if given not in (0 if empty else 1, num_tasks):
        raise ValueError(f"{name}: {key} has {given} numbers, expected {num_tasks}, one a task")
