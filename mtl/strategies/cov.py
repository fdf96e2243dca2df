from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.strategies._objectives import FLOOR, neutral, positive
from mtl.strategies.strategy import Signals, Strategy

_EPS = 1e-8
_LARGEST = 1e9  # a ratio whose square, summed over a training, stays in the range of float32


class CoVState(NamedTuple):
    """Running means of the losses and of their ratios (K,), the ratios' summed squared deviations (K,), and steps."""

    mean_loss: Tensor
    mean_ratio: Tensor
    squares: Tensor
    step: Tensor


@dataclass(frozen=True)
class CoV(Strategy):
    """Coefficient-of-variation weighting: w = c / sum_j c_j, c = std(l) / mean(l), l(t) = L(t) / mean(L(0..t-1))
    (Groenendijk et al., WACV 2021).

    The statistics run over the whole of training by Welford's algorithm and do not include the step that they weigh, as
    in the official code; the first two steps weigh all tasks 1/K. Like that code, the variance has 1e-8 added, so that
    constant losses get equal weights. That includes zero and negative ones: the ratio to a mean of zero is 1. A task
    whose ratios have a mean at or below zero has the mean weight of the others. Deviation: ratios are kept within
    1e9.
    """

    name: ClassVar[str] = "cov"
    paper: ClassVar[str] = "Groenendijk et al., Multi-Loss Weighting with Coefficient of Variations, WACV 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    def init(self, losses: Tensor) -> CoVState:
        zeros = torch.zeros_like(losses)
        return CoVState(zeros, zeros, zeros, losses.new_zeros(()))

    def __call__(self, state: CoVState, signals: Signals) -> tuple[Tensor, CoVState]:
        losses, step = signals["losses"], state.step
        deviation = (state.squares / step.clamp(min=1) + _EPS).sqrt()
        ratios, counts = positive(torch.where(step > 1, state.mean_ratio, 1))
        variation = neutral(torch.where(step > 1, deviation / ratios, 1), counts)

        mean = torch.where(step > 0, state.mean_loss, losses)
        known = mean.abs() > FLOOR
        # A loss that has been zero so far is as it was.
        ratio = torch.where(known, losses / torch.where(known, mean, 1), 1).clamp(-_LARGEST, _LARGEST)
        mean_ratio = state.mean_ratio + (ratio - state.mean_ratio) / (step + 1)
        squares = state.squares + (ratio - state.mean_ratio) * (ratio - mean_ratio)
        mean_loss = state.mean_loss + (losses - state.mean_loss) / (step + 1)
        return variation / variation.sum(), CoVState(mean_loss, mean_ratio, squares, step + 1)
