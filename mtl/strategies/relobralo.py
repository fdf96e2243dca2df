from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR
from mtl.strategies.strategy import Signals, Strategy

_EPS = 1e-12


class ReLoBRaLoState(NamedTuple):
    """Weights (K,), the first and the previous step's losses (K,), and the number of steps made."""

    weights: Tensor
    initial: Tensor
    previous: Tensor
    step: Tensor


@dataclass(frozen=True)
class ReLoBRaLo(Strategy):
    """Relative loss balancing with random lookback: w = alpha (rho w(t-1) + (1 - rho) b(t, 0)) + (1 - alpha) b(t, t-1),
    b(t, t') = K softmax(L(t) / (T L(t'))) (Bischof & Kraus 2021).

    rho is a Bernoulli variable, drawn every step from the signal `noise`, one draw for all tasks; `rho` is its mean. As
    in the official code, the first step weighs all tasks 1, the second by b(1, 0) alone, and the divisors T L(t') have
    1e-12 added. Weights sum to K. The ratio to a loss that is not positive is 1, and L(0) is a task's first positive
    loss.
    """

    name: ClassVar[str] = "relobralo"
    paper: ClassVar[str] = "Bischof & Kraus, Multi-Objective Loss Balancing for Physics-Informed Deep Learning, 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "noise"})
    domain: ClassVar[str] = "positive"

    alpha: float = hyper(0.999, 0.0, 1.0, search=(0.9, 0.9999), doc="share of the past in the weights")
    temperature: float = hyper(1.0, 1e-5, search=(1e-2, 10.0), log=True, doc="T; weights even out as it grows")
    rho: float = hyper(0.999, 0.0, 1.0, search=(0.9, 1.0), doc="probability of looking back one step only")

    def init(self, losses: Tensor) -> ReLoBRaLoState:
        ones = torch.ones_like(losses)
        return ReLoBRaLoState(ones, ones, ones, losses.new_zeros(()))

    def __call__(self, state: ReLoBRaLoState, signals: Signals) -> tuple[Tensor, ReLoBRaLoState]:
        losses, step = signals["losses"], state.step
        recent = torch.special.ndtr(signals["noise"][0, 0]) < self.rho

        def balance(reference: Tensor) -> Tensor:
            known = reference > FLOOR
            relative = torch.where(known, losses, 1) / (torch.where(known, reference, 1) * self.temperature + _EPS)
            return losses.shape[-1] * torch.softmax(relative, -1)

        past = torch.where(recent, state.weights, balance(state.initial))
        now = balance(state.previous)
        weights = torch.where(step > 1, self.alpha * past + (1 - self.alpha) * now, now)
        weights = torch.where(step > 0, weights, torch.ones_like(losses))
        initial = torch.where((step > 0) & (state.initial > FLOOR), state.initial, losses)
        return weights, ReLoBRaLoState(weights, initial, losses, step + 1)
