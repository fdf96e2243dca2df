from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import rounding
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.solvers.simplex import min_norm
from mtl.strategies.strategy import Signals, Strategy

_SOLVED = 1e-8  # relative to the gradients, how far from zero the solver may leave what should be zero


class MOMLState(NamedTuple):
    """Logits of the weights (K,) and their optimizer's moments."""

    logits: Tensor
    moments: Moments


@dataclass(frozen=True)
class MOML(Strategy):
    """Weights that lower every task's validation loss at once after a lookahead (Ye et al., NeurIPS 2021, eqs. 3-6).

    With weights w = softmax(a) and theta' = theta - eta sum_k w_k grad L_k, the validation loss of task i has the
    derivative -eta sum_k align[i, k] dw_k/da_j by a_j. The K hypergradients are combined by the min-norm point of their
    convex hull, and a descends along it before the model's step. Neither point nor Adam's step depends on eta, which is
    left out. Deviations: one inner step (T = 1), as in the authors' code for multi-task learning; that code then trains
    the model on the two batches together, here it is trained on the training batch.
    """

    name: ClassVar[str] = "moml"
    paper: ClassVar[str] = "Ye et al., Multi-Objective Meta Learning, NeurIPS 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "align"})

    lr: float = hyper(1e-3, 0.0, search=(1e-4, 1e-1), log=True, doc="step size of the logits")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the logits")

    def init(self, losses: Tensor) -> MOMLState:
        return MOMLState(torch.zeros_like(losses), moments(losses))

    def __call__(self, state: MOMLState, signals: Signals) -> tuple[Tensor, MOMLState]:
        share, align = torch.softmax(state.logits.double(), -1), signals["align"].double()
        gradients = -(align - (align @ share)[:, None]) * share  # row i: validation loss i by the logits
        weights = min_norm(gradients @ gradients.mT)
        gradient = weights @ gradients
        # At a stationary point what is left is rounding and the solver's, of which Adam would make a whole step.
        least = max(_SOLVED, rounding(align, signals["align"].dtype)) * (weights @ gradients.norm(dim=-1))
        gradient = torch.where(gradient.norm() > least, gradient, 0).to(state.logits.dtype)
        logits, updated = descend(state.logits, gradient, state.moments, self.lr, optimizer=self.optimizer)
        return torch.softmax(logits, -1), MOMLState(logits, updated)

    def current(self, state: MOMLState, signals: Signals) -> Tensor:  # noqa: ARG002
        return torch.softmax(state.logits, -1)
