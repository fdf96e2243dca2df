from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import neutral, positive
from mtl.strategies.strategy import Signals, Strategy

_LEAST = -69.0  # log of the smallest p, 1e-30


class MLDTState(NamedTuple):
    """Moving average of the losses (K,; NaN before the first step)."""

    mean: Tensor


@dataclass(frozen=True)
class MLDT(Strategy):
    """Multi-loss dynamic training: w = -(1 - p)^gamma log(p), p = min(k(t), k(t-1)) / k(t-1) (Zheng et al., CVPR 2019).

    k(t) = alpha L(t) + (1 - alpha) k(t-1) is a loss's average and p its progress: a task whose loss no longer falls has
    p = 1 and weight zero. When none falls, and at the first step, all weights are 1. A task whose average is zero has
    the mean weight of the others. Deviation: the paper switches between two fixed losses by such probabilities; the
    focal weights of all tasks follow Crawshaw & Košecká (2021), who carried the rule over to any number of tasks.
    """

    name: ClassVar[str] = "mldt"
    paper: ClassVar[str] = "Zheng et al., Pyramidal Person Re-IDentification via Multi-Loss Dynamic Training, CVPR 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    gamma: float = hyper(2.0, 0.0, search=(0.1, 5.0), log=True, doc="focus on tasks whose loss falls fast")
    alpha: float = hyper(0.25, 0.0, 1.0, search=(0.01, 1.0), log=True, doc="share of the present in the average")

    def init(self, losses: Tensor) -> MLDTState:
        return MLDTState(torch.full_like(losses, torch.nan))

    def __call__(self, state: MLDTState, signals: Signals) -> tuple[Tensor, MLDTState]:
        losses = signals["losses"]
        past = torch.where(state.mean.isnan(), losses, state.mean)
        mean = self.alpha * losses + (1 - self.alpha) * past
        # 1 - p, as the difference itself: near 1 there is little left of p's digits.
        fall = self.alpha * (past - losses) / torch.where(past > 0, past, 1)
        fall = torch.where(past > 0, fall, 0).clamp(0, 1)
        focal = -(fall**self.gamma) * torch.log1p(-fall).clamp(min=_LEAST)
        focal = neutral(focal, positive(mean)[1])
        idle = (fall == 0).all()
        return torch.where(idle, torch.ones_like(losses), focal), MLDTState(mean)
