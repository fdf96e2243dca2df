from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, positive, shares
from mtl.strategies.strategy import Signals, Strategy


class IGBState(NamedTuple):
    """Losses of the base epoch summed (K,), and the number of steps in the sum."""

    total: Tensor
    steps: Tensor


@dataclass(frozen=True)
class IGB(Strategy):
    """Improvable gap balancing, first version: w = K softmax(L / L_base) / L (Dai et al., UAI 2023).

    L_base is a task's mean loss over the epoch `base_epoch`; before that epoch has ended the softmax is uniform. The
    division by L comes from the paper's log losses sum_k v_k log L_k, v the constant softmax. A task whose loss
    is not positive has the mean weight of the others; the ratio to a base of zero is 1. Deviation: when the base epoch
    passes without a step, the first step after it serves as the base.
    """

    name: ClassVar[str] = "igb"
    paper: ClassVar[str] = "Dai, Fei & Lu, Improvable Gap Balancing for Multi-Task Learning, UAI 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "epoch"})
    domain: ClassVar[str] = "positive"

    base_epoch: int = hyper(1, 0, doc="epoch, from 0, whose mean losses are the base")

    def init(self, losses: Tensor) -> IGBState:
        return IGBState(torch.zeros_like(losses), losses.new_zeros(()))

    def __call__(self, state: IGBState, signals: Signals) -> tuple[Tensor, IGBState]:
        (losses, counts), epoch = positive(signals["losses"]), signals["epoch"]
        ready = (epoch > self.base_epoch) & (state.steps > 0)
        base = state.total / state.steps.clamp(min=1)
        known = base > FLOOR
        gap = torch.where(known, losses / torch.where(known, base, 1), 1)
        scale = torch.where(ready, losses.shape[-1] * shares(gap, counts), 1)
        counted = (epoch >= self.base_epoch) & ~ready
        fresh = signals["losses"].clamp(min=0)
        total, steps = torch.where(counted, state.total + fresh, state.total), state.steps + counted
        return neutral(scale / losses, counts), IGBState(total, steps)
