from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, positive
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy


class UncertaintyState(NamedTuple):
    """Learned log variances s (K,) and their optimizer's moments."""

    log_variance: Tensor
    moments: Moments


@dataclass(frozen=True)
class Uncertainty(Strategy):
    """Homoscedastic uncertainty: w = exp(-s)/2, s descending on exp(-s) L / 2 + s / 2 (Kendall et al. 2018, eq. 7).

    s is the log variance of each task's noise; at convergence exp(s) = L, which for a mean squared error is the noise
    variance. As s enters the objective in closed form, its gradient (1 - exp(-s) L) / 2 needs no backward pass, and a
    step of `optimizer` here equals a step of the same optimizer over the model and s together. The paper writes the
    classification term as exp(-s) L + s / 2; as public code does, every task uses the regression form. For a loss that
    is not positive s would fall without end: its task has the mean weight of the others, and its s does not learn.
    """

    name: ClassVar[str] = "uncertainty"
    paper: ClassVar[str] = "Kendall, Gal & Cipolla, Multi-Task Learning Using Uncertainty, CVPR 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    lr: float = hyper(0.01, 0.0, search=(1e-4, 1e-1), log=True, doc="step size of the log variances")
    start: float = hyper(0.0, search=(-3.0, 3.0), doc="log variance before the first step")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the log variances")

    def init(self, losses: Tensor) -> UncertaintyState:
        return UncertaintyState(torch.zeros_like(losses) + self.start, moments(losses))

    def __call__(self, state: UncertaintyState, signals: Signals) -> tuple[Tensor, UncertaintyState]:
        precision = torch.exp(-state.log_variance)
        losses, counts = positive(signals["losses"])
        gradient = torch.where(signals["losses"] > FLOOR, (1 - precision * losses) / 2, 0)
        log_variance, updated = descend(state.log_variance, gradient, state.moments, self.lr, optimizer=self.optimizer)
        return neutral(precision / 2, counts), UncertaintyState(log_variance, updated)
