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
    gradient = gradient + weight_decay * value
    updates = state.updates + 1
    if optimizer == "sgd":
        return value - lr * gradient, state._replace(updates=updates)
    first = betas[0] * state.first + (1 - betas[0]) * gradient
    second = betas[1] * state.second + (1 - betas[1]) * gradient**2
    unbiased = first / _one_minus_power(betas[0], updates)
    spread = (second / _one_minus_power(betas[1], updates)).sqrt()
    return value - lr * unbiased / (spread + eps), Moments(first, second, updates)


def _one_minus_power(base: float, exponent: Tensor) -> Tensor:
    """1 - base^exponent without the cancellation that would cost float32 five digits at the first steps."""
    return -torch.expm1(exponent * math.log(base))
