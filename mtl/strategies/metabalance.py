from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse, lengths
from mtl.strategies.strategy import Signals, Strategy


class MetaBalanceState(NamedTuple):
    """Moving averages of the gradient norms (K,)."""

    norms: Tensor


@dataclass(frozen=True)
class MetaBalance(Strategy):
    """Auxiliary gradients brought to the norm of the target task's: w_k = r m_target / m_k + 1 - r (He et al., WWW
    2022).

    m is the moving average m <- beta m + (1 - beta) |g| from zero, whose start-up bias cancels in the ratio; the target
    keeps weight 1. This is the paper's strategy that both reduces and enlarges, the one of the official code.
    Deviation: the norm is that of a task's whole shared gradient; the paper takes one ratio a block of parameters,
    which one weight a task cannot express. A gradient of zero gets 1 - r.
    """

    name: ClassVar[str] = "metabalance"
    paper: ClassVar[str] = "He et al., MetaBalance: Improving Multi-Task Recommendations, WWW 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    relax: float = hyper(0.7, 0.0, 1.0, search=(0.1, 1.0), doc="r; 0 leaves the gradients as they are")
    beta: float = hyper(0.9, 0.0, 1.0, search=(0.5, 0.999), doc="share of the past in the averages")
    primary: int = hyper(0, 0, tasks="index", doc="index of the target task")

    def init(self, losses: Tensor) -> MetaBalanceState:
        return MetaBalanceState(torch.zeros_like(losses))

    def __call__(self, state: MetaBalanceState, signals: Signals) -> tuple[Tensor, MetaBalanceState]:
        norms = self.beta * state.norms + (1 - self.beta) * lengths(signals["gramian"]).to(state.norms)
        ratio = norms[self.primary] * inverse(norms)
        return self.relax * ratio + (1 - self.relax), MetaBalanceState(norms)
