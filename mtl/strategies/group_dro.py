from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


class GroupDROState(NamedTuple):
    """Logarithms of the adversary's weights (K,)."""

    log_weights: Tensor


@dataclass(frozen=True)
class GroupDRO(Strategy):
    """Group distributionally robust optimization: q_k <- q_k exp(eta L_k), normalised, and w = q (Sagawa et al., ICLR
    2020, algorithm 1).

    Exponentiated-gradient ascent on the simplex against descent on sum_k q_k L_k, whose saddle point minimises the
    worst task's loss. The weights are those after the update by this batch's losses, as in the paper. Deviations: each
    group is a task, and every step sees a loss of each; the paper's strong weight decay is the optimizer's affair.
    """

    name: ClassVar[str] = "group-dro"
    paper: ClassVar[str] = "Sagawa et al., Distributionally Robust Neural Networks, ICLR 2020"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    lr: float = hyper(0.01, 0.0, search=(1e-3, 1.0), log=True, doc="eta, step size of the adversary")

    def init(self, losses: Tensor) -> GroupDROState:
        return GroupDROState(torch.log_softmax(torch.zeros_like(losses), -1))

    def __call__(self, state: GroupDROState, signals: Signals) -> tuple[Tensor, GroupDROState]:
        log_weights = torch.log_softmax(state.log_weights + self.lr * signals["losses"], -1)
        return log_weights.exp(), GroupDROState(log_weights)
