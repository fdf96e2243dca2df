from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral
from mtl.strategies.strategy import Signals, Strategy

_EPS = 1e-5


class SLAWState(NamedTuple):
    """Moving mean and variance of the losses (K,), and the number of steps made."""

    mean: Tensor
    variance: Tensor
    step: Tensor


@dataclass(frozen=True)
class SLAW(Strategy):
    """Scaled loss approximate weighting: w = K (1 / s) / sum_j (1 / s_j), s the standard deviation of a task's loss
    (Crawshaw & Košecká, arXiv:2109.08218, 2021).

    s stands in for the gradient's norm. Mean and variance average exponentially with `beta`; until 1 / (1 - beta) steps
    they are plain averages, as in the official code, and s is kept above 1e-5. The first step weighs all tasks 1,
    and a task whose loss is zero has the mean weight of the others. The
    variance is updated in a form that does not cancel, equal to the mean square minus the squared mean.
    """

    name: ClassVar[str] = "slaw"
    paper: ClassVar[str] = "Crawshaw & Košecká, SLAW: Scaled Loss Approximate Weighting, arXiv:2109.08218, 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    beta: float = hyper(0.99, 0.0, 1.0, search=(0.5, 0.999), doc="share of the past in the statistics")

    def init(self, losses: Tensor) -> SLAWState:
        zeros = torch.zeros_like(losses)
        return SLAWState(zeros, zeros, losses.new_zeros(()))

    def __call__(self, state: SLAWState, signals: Signals) -> tuple[Tensor, SLAWState]:
        step = state.step + 1
        rate = torch.maximum(1 / step, torch.zeros_like(step) + 1 - self.beta)
        change = signals["losses"] - state.mean
        mean = state.mean + rate * change
        variance = (1 - rate) * (state.variance + rate * change**2)
        inverse = 1 / variance.sqrt().clamp(min=_EPS)
        counts = signals["losses"].abs() > FLOOR
        inverse = neutral(inverse, counts | ~counts.any(-1, keepdim=True))
        return inverse * (inverse.shape[-1] / inverse.sum()), SLAWState(mean, variance, step)
