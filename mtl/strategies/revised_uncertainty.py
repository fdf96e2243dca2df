from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, positive
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy

_SMALLEST = 1e-3


class RevisedUncertaintyState(NamedTuple):
    """Learned noise scales c (K,) and their optimizer's moments."""

    scale: Tensor
    moments: Moments


@dataclass(frozen=True)
class RevisedUncertainty(Strategy):
    """Uncertainty with a bounded regularizer: w = 1 / (2 c^2), c descending on L / (2 c^2) + ln(1 + c^2) (Liebel &
    Körner 2018).

    The regularizer of Kendall et al., ln c, turns negative for c < 1; this one never does. c is learned itself, not its
    logarithm, starts at `start` and settles where L = 2 c^4 / (1 + c^2). Its gradient 2 c / (1 + c^2) - L / c^3 is in
    closed form, so a step of `optimizer` here equals one over the model and c together. A task whose loss is not
    positive has the mean weight of the others, and its c does not learn. Deviation: c is kept at or above 1e-3, where a
    step across the pole at zero would give unbounded weights. Known in code as "automatic weighted loss".
    """

    name: ClassVar[str] = "revised-uncertainty"
    paper: ClassVar[str] = "Liebel & Körner, Auxiliary Tasks in Multi-task Learning, arXiv:1805.06334, 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    lr: float = hyper(0.01, 0.0, search=(1e-4, 1e-1), log=True, doc="step size of the noise scales")
    start: float = hyper(1.0, _SMALLEST, search=(0.3, 3.0), log=True, doc="noise scale before the first step")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the noise scales")

    def init(self, losses: Tensor) -> RevisedUncertaintyState:
        return RevisedUncertaintyState(torch.zeros_like(losses) + self.start, moments(losses))

    def __call__(self, state: RevisedUncertaintyState, signals: Signals) -> tuple[Tensor, RevisedUncertaintyState]:
        c = state.scale
        losses, counts = positive(signals["losses"])
        gradient = torch.where(signals["losses"] > FLOOR, 2 * c / (1 + c**2) - losses / c**3, 0)
        scale, updated = descend(c, gradient, state.moments, self.lr, optimizer=self.optimizer)
        weights = neutral(1 / (2 * c**2), counts)
        return weights, RevisedUncertaintyState(scale.clamp(min=_SMALLEST), updated)
