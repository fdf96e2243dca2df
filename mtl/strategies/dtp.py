from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


class DTPState(NamedTuple):
    """Moving average of the performance indicators (K,; NaN before the first step)."""

    performance: Tensor


@dataclass(frozen=True)
class DTP(Strategy):
    """Dynamic task prioritization: w = -(1 - kappa)^gamma log(kappa), the focal loss of a task's performance kappa in
    [0, 1] (Guo et al., ECCV 2018).

    kappa is averaged as kappa(t) = alpha k(t) + (1 - alpha) kappa(t-1). Deviations: the paper's indicator k is a metric
    such as accuracy, of which a loss knows nothing; here k = exp(-L), the (geometric mean) likelihood of the targets
    when L is a cross-entropy, and losses below zero count as zero. The paper's focal loss on single examples belongs to
    the losses and is not part of this. kappa is kept above 1e-30. All weights vanish as all losses do.
    """

    name: ClassVar[str] = "dtp"
    paper: ClassVar[str] = "Guo et al., Dynamic Task Prioritization for Multitask Learning, ECCV 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "nonnegative"

    gamma: float = hyper(1.0, 0.0, search=(0.1, 5.0), log=True, doc="focus on tasks that perform badly")
    alpha: float = hyper(0.1, 0.0, 1.0, search=(0.01, 1.0), log=True, doc="share of the present in the average")

    def init(self, losses: Tensor) -> DTPState:
        return DTPState(torch.full_like(losses, torch.nan))

    def __call__(self, state: DTPState, signals: Signals) -> tuple[Tensor, DTPState]:
        now = torch.exp(-signals["losses"].clamp(min=0))
        past = torch.where(state.performance.isnan(), now, state.performance)
        performance = self.alpha * now + (1 - self.alpha) * past
        kappa = performance.clamp(1e-30, 1)
        return -((1 - kappa) ** self.gamma) * kappa.log(), DTPState(performance)
