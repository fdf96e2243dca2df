from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse
from mtl.strategies._objectives import positive
from mtl.strategies.strategy import Signals, SizedStrategy


class DBMTLEMAState(NamedTuple):
    """Moving averages of the gradients of the log losses (K, D), and the number of steps made."""

    tracked: Tensor
    step: Tensor


@dataclass(frozen=True)
class DBMTLEMA(SizedStrategy):
    """Dual balancing with its moving average of the gradients (Lin et al., arXiv:2308.12029, algorithm 1).

    Y_k <- beta_t Y_k + (1 - beta_t) grad log L_k with beta_t = beta / t^sigma, and the update is the sum over tasks of
    Y_k scaled to the length of the longest. With beta = 0 it is that of `db-mtl`, which needs no buffer of K x P
    numbers. The gradient of a loss that is not positive is
    averaged as it is, and an average of zero gets weight 0.
    """

    name: ClassVar[str] = "db-mtl-ema"
    paper: ClassVar[str] = "Lin et al., Dual-Balancing for Multi-Task Learning, 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "jacobian"})
    domain: ClassVar[str] = "positive"
    tracking: ClassVar[bool] = True

    beta: float = hyper(0.9, 0.0, 1.0, search=(0.1, 0.99), doc="share of the past in the first step")
    sigma: float = hyper(0.5, 0.0, search=(0.0, 1.0), doc="power at which that share decays; 0 in LibMTL")

    def init_sized(self, losses: Tensor, dimension: int) -> DBMTLEMAState:
        return DBMTLEMAState(losses.new_zeros(len(losses), dimension), losses.new_zeros(()))

    def __call__(self, state: DBMTLEMAState, signals: Signals) -> tuple[Tensor, DBMTLEMAState]:
        step = state.step + 1
        share = self.beta / step**self.sigma
        losses, _ = positive(signals["losses"])
        rows = signals["jacobian"].to(state.tracked.dtype) / losses[:, None]
        tracked = share * state.tracked + (1 - share) * rows
        lengths = torch.linalg.vector_norm(tracked, dim=-1, dtype=torch.float64)
        weights = lengths.amax() * inverse(lengths)
        return weights.to(tracked.dtype), DBMTLEMAState(tracked, step)

    def gradients(self, state: DBMTLEMAState, jacobian: Tensor) -> Tensor:  # noqa: ARG002
        return state.tracked
