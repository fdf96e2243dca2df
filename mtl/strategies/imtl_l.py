from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, positive
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy


class IMTLLState(NamedTuple):
    """Learned log scales s (K,) and their optimizer's moments."""

    log_scale: Tensor
    moments: Moments


@dataclass(frozen=True)
class IMTLL(Strategy):
    """Loss balance of impartial multi-task learning: w = exp(s), s descending on exp(s) L - s (Liu et al., ICLR 2021).

    At convergence exp(s) L = 1, so all scaled losses are equal. The gradient exp(s) L - 1 is in closed form, so a step
    of `optimizer` here equals one over the model and s together. The paper's IMTL is this followed by IMTL-G, written
    `imtl-l+imtl-g`. For a loss that is not positive s would rise without end: its task has the mean weight of the
    others, and its s does not learn.
    """

    name: ClassVar[str] = "imtl-l"
    paper: ClassVar[str] = "Liu et al., Towards Impartial Multi-task Learning, ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    lr: float = hyper(0.01, 0.0, search=(1e-4, 1e-1), log=True, doc="step size of the log scales")
    start: float = hyper(0.0, search=(-3.0, 3.0), doc="log scale before the first step")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the log scales")

    def init(self, losses: Tensor) -> IMTLLState:
        return IMTLLState(torch.zeros_like(losses) + self.start, moments(losses))

    def __call__(self, state: IMTLLState, signals: Signals) -> tuple[Tensor, IMTLLState]:
        weights = torch.exp(state.log_scale)
        losses, counts = positive(signals["losses"])
        gradient = torch.where(signals["losses"] > FLOOR, weights * losses - 1, 0)
        log_scale, updated = descend(state.log_scale, gradient, state.moments, self.lr, optimizer=self.optimizer)
        return neutral(weights, counts), IMTLLState(log_scale, updated)
