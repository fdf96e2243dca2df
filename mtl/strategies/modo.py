from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import taking_part
from mtl.strategies._objectives import neutral
from mtl.strategies.solvers.simplex import project_simplex
from mtl.strategies.strategy import Signals, Strategy


class MoDoState(NamedTuple):
    """Weights (K,)."""

    weights: Tensor


@dataclass(frozen=True)
class MoDo(Strategy):
    """Min-norm weights by projected steps on an unbiased gradient from two samples (Chen et al., NeurIPS 2023, eq. 6).

    w <- P(w - gamma (J' J''^T + rho I) w) with P the projection on the simplex and J', J'' the gradients of two
    independent batches; the product of one batch's gradients with themselves would be biased by their noise. The update
    is sum_k w_k g_k with the gradients of this batch, a third one, as in LibMTL and in the authors' code with three
    gradients. A task whose loss and gradients are zero has the mean slope of the others, and so draws no weight.
    Deviation: equation 2.9 of the JMLR version updates on the mean of the two batches of w.
    """

    name: ClassVar[str] = "modo"
    paper: ClassVar[str] = "Chen et al., Three-Way Trade-Off in Multi-Objective Learning, NeurIPS 2023, JMLR 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "cross"})

    gamma: float = hyper(1e-3, 0.0, search=(1e-4, 1.0), log=True, doc="step size of the weights")
    rho: float = hyper(0.0, 0.0, search=(0.0, 1.0), doc="l2 penalty on the weights; 0.1 in the authors' code")

    def init(self, losses: Tensor) -> MoDoState:
        return MoDoState(torch.full_like(losses, 1 / len(losses)))

    def __call__(self, state: MoDoState, signals: Signals) -> tuple[Tensor, MoDoState]:
        slope = signals["cross"] @ state.weights + self.rho * state.weights
        slope = neutral(slope, taking_part(signals["losses"], signals["cross"].diagonal()))
        weights = project_simplex(state.weights - self.gamma * slope)
        return weights, MoDoState(weights)
