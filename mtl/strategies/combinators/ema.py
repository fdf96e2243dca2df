from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.combinators.wrapper import Wrapper, filled
from mtl.strategies.strategy import Signals, Strategy


class EMAState(NamedTuple):
    """The inner state and the smoothed weights (shaped as the weights; NaN before the first step)."""

    inner: Any
    weights: Tensor


@dataclass(frozen=True)
class EMA(Wrapper):
    """Smoothed weights w_t = beta w_(t-1) + (1 - beta) w (CR-MOGM; Zhou et al., NeurIPS 2022, eq. 6).

    The average starts at the first step's weights.
    """

    name: ClassVar[str] = "ema"
    paper: ClassVar[str] = "Zhou et al., On the Convergence of Stochastic Multi-Objective Gradient Manipulation, 2022"
    beta: float = hyper(0.9, 0.0, 1.0, search=(0.5, 0.999), doc="share of the past")

    def init(self, losses: Tensor) -> EMAState:
        return EMAState(self.inner.init(losses), filled(losses, self.inner, None, torch.nan))

    def init_sized(self, losses: Tensor, dimension: int) -> EMAState:
        return EMAState(self.inner.init_sized(losses, dimension), filled(losses, self.inner, dimension, torch.nan))

    def __call__(self, state: EMAState, signals: Signals) -> tuple[Tensor, EMAState]:
        fresh, inner = self.inner(state.inner, signals)
        smooth = self.beta * state.weights + (1 - self.beta) * fresh
        weights = torch.where(state.weights.isnan(), fresh, smooth)
        return weights, EMAState(inner, weights)

    def gradients(self, state: EMAState, jacobian: Tensor) -> Tensor:
        return self.inner.gradients(state.inner, jacobian)

    def current(self, state: EMAState, signals: Signals) -> Tensor:
        return torch.where(state.weights.isnan(), self.inner.current(state.inner, signals), state.weights)


def ema(strategy: Strategy, beta: float) -> EMA:
    """`strategy` with its weights averaged exponentially."""
    return EMA(strategy, beta)
