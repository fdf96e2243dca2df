"""Optimizer steps on a strategy's own learned parameters, as pure functions of tensors."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

OPTIMIZERS = ("adam", "sgd")


class Moments(NamedTuple):
    """Adam's running moments of the gradient, and the number of updates made."""

    first: Tensor
    second: Tensor
    updates: Tensor


def moments(like: Tensor) -> Moments:
    """Moments before the first update of a parameter shaped as `like`."""
    return Moments(torch.zeros_like(like), torch.zeros_like(like), like.new_zeros(()))


def descend(
    value: Tensor,
    gradient: Tensor,
    state: Moments,
    lr: float | Tensor,
    *,
    optimizer: str = "adam",
    weight_decay: float | Tensor = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[Tensor, Moments]:
    """One step of Adam (Kingma & Ba 2015; decay added to the gradient) or SGD, equal to the one in `torch.optim`."""
    if isinstance(weight_decay, Tensor) or weight_decay:
        gradient = gradient + weight_decay * value
    updates = state.updates + 1
    if optimizer == "sgd":
        return value - lr * gradient, state._replace(updates=updates)
    # These few numbers cost what it takes to start an operation, so the fewest operations are the fastest.
    first = torch.lerp(state.first, gradient, 1 - betas[0])
    second = torch.addcmul(betas[1] * state.second, gradient, gradient, value=1 - betas[1])
    spread = (second / -_power_minus_one(betas[1], updates)).sqrt()
    step = lr * first / _power_minus_one(betas[0], updates) / (spread + eps)
    return value + step, Moments(first, second, updates)


def _power_minus_one(base: float, exponent: Tensor) -> Tensor:
    """base^exponent - 1 without the cancellation that would cost float32 five digits at the first steps."""
    return torch.expm1(exponent * math.log(base))
