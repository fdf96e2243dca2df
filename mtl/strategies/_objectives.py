"""What strategies that minimise a scalar function of the losses share: positive losses, preferences, ideal points.

The papers divide by losses and take their logarithms, and leave open what a loss of zero means: a hinge that is met, a
task without an example in the batch. Formally such a task outweighs all others without end. Here it says nothing: the
others are weighed as if they were alone, and it weighs what they weigh on average, so that it takes no part of their
scale. The same holds for losses below zero, for which the formulas mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.strategies.solvers._early import settled

#: A loss up to here counts as zero.
FLOOR = 1e-20


def positive(losses: Tensor) -> tuple[Tensor, Tensor]:
    """The losses (K,) for logarithms and divisors, with 1 for those that are not positive, and which tasks count.

    Those with a positive loss count; where none has one, all do, and are equals.
    """
    counts = losses > FLOOR
    if settled(counts):
        return losses, counts
    return torch.where(counts, losses, 1), counts | ~counts.any(-1, keepdim=True)


def neutral(weights: Tensor, counts: Tensor) -> Tensor:
    """The weights (K,), with the mean of those of the tasks that count for the others."""
    if settled(counts):
        return weights
    mean = torch.where(counts, weights, 0).sum(-1, keepdim=True) / counts.sum(-1, keepdim=True)
    return torch.where(counts, weights, mean)


def shares(logits: Tensor, counts: Tensor) -> Tensor:
    """The softmax (K,) among the tasks that count, 1 / K for each of the others; the sum is one."""
    if settled(counts):
        size = logits.shape[-1]
        return torch.softmax(logits, -1) * size / size
    inside = torch.softmax(torch.where(counts, logits, -torch.inf), -1) * counts.sum(-1, keepdim=True)
    return torch.where(counts, inside, 1) / logits.shape[-1]


def per_task(values: Sequence[float] | Tensor, losses: Tensor) -> Tensor:
    """One number a task as a tensor like `losses`; a single number serves all tasks."""
    return torch.as_tensor(values, dtype=losses.dtype, device=losses.device).expand_as(losses)


def on_simplex(preference: Sequence[float] | Tensor, losses: Tensor) -> Tensor:
    """The preference scaled to sum 1; equal shares when it is empty."""
    if not isinstance(preference, Tensor) and not preference:
        return torch.full_like(losses, 1 / losses.shape[-1])
    weights = per_task(preference, losses)
    return weights / weights.sum()
