from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, positive
from mtl.strategies.strategy import Signals, Strategy


class AdaLossState(NamedTuple):
    """Moving average of the losses (K,; NaN before the first step)."""

    mean: Tensor


@dataclass(frozen=True)
class AdaLoss(Strategy):
    """Weights inversely proportional to each loss's average: w = 1 / mean(L) (Hu et al., AAAI 2019).

    It descends on sum_k log E[L_k], the geometric mean of the expected losses, where `log` descends on the batch's own.
    The average is exponential and starts at the first batch. Its decay, 0.99, is our choice. A task whose average is
    zero has the mean weight of the others, and its average starts at its first positive loss.
    """

    name: ClassVar[str] = "adaloss"
    paper: ClassVar[str] = "Hu et al., Learning Anytime Predictions via Adaptive Loss Balancing, AAAI 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    decay: float = hyper(0.99, 0.0, 1.0, search=(0.5, 0.999), doc="share of the past in the average")

    def init(self, losses: Tensor) -> AdaLossState:
        return AdaLossState(torch.full_like(losses, torch.nan))

    def __call__(self, state: AdaLossState, signals: Signals) -> tuple[Tensor, AdaLossState]:
        losses = signals["losses"]
        past = torch.where(state.mean > FLOOR, state.mean, losses)  # none before the first step
        mean = self.decay * past + (1 - self.decay) * losses
        divisor, counts = positive(mean)
        return neutral(1 / divisor, counts), AdaLossState(mean)
