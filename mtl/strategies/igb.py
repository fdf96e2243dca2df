from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import positive
from mtl.strategy import Signals, Strategy


class IGBState(NamedTuple):
    """Losses of the base epoch summed (K,), and the number of steps in the sum."""

    total: Tensor
    steps: Tensor


@dataclass(frozen=True)
class IGB(Strategy):
    """Improvable gap balancing, first version: w = K softmax(L / L_base) / L (Dai et al., UAI 2023).

    L_base is a task's mean loss over the epoch `base_epoch`; before that epoch has ended the softmax is uniform. The
    division by L comes from the paper's log losses sum_k v_k log L_k, v the constant softmax. Deviations: losses are
    kept above 1e-20; when the base epoch passes without a step, the first step after it serves as the base.
    """

    name: ClassVar[str] = "igb"
    paper: ClassVar[str] = "Dai, Fei & Lu, Improvable Gap Balancing for Multi-Task Learning, UAI 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "epoch"})

    base_epoch: int = hyper(1, 0, doc="epoch, from 0, whose mean losses are the base")

    def init(self, losses: Tensor) -> IGBState:
        return IGBState(torch.zeros_like(losses), losses.new_zeros(()))

    def __call__(self, state: IGBState, signals: Signals) -> tuple[Tensor, IGBState]:
        losses, epoch = positive(signals["losses"]), signals["epoch"]
        ready = (epoch > self.base_epoch) & (state.steps > 0)
        gap = losses / positive(state.total / state.steps.clamp(min=1))
        scale = torch.where(ready, losses.shape[-1] * torch.softmax(gap, -1), 1)
        counted = (epoch >= self.base_epoch) & ~ready
        total, steps = torch.where(counted, state.total + losses, state.total), state.steps + counted
        return scale / losses, IGBState(total, steps)
