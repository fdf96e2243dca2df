from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy


class AutoLambdaState(NamedTuple):
    """Learned weights lambda (K,) and their optimizer's moments."""

    weights: Tensor
    moments: Moments


@dataclass(frozen=True)
class AutoLambda(Strategy):
    """Weights that lower the validation loss after one lookahead step (Liu et al., TMLR 2022, eqs. 2-5).

    At theta' = theta - eta sum_k lambda_k grad L_k the derivative of the primary tasks' validation loss by lambda_k is
    -eta grad L_val(theta') . grad L_k(theta), which is -eta times a column sum of the signal `align`. The official code
    approximates the same product by a finite difference. eta only scales the gradient, which Adam divides out, so it
    is left out here. The lookahead is a plain gradient step, as in the paper's equation; the official code adds the
    optimizer's momentum and weight decay. Deviation: lambda is kept at or above zero.
    """

    name: ClassVar[str] = "auto-lambda"
    paper: ClassVar[str] = "Liu et al., Auto-Lambda: Disentangling Dynamic Task Relationships, TMLR 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "align"})

    start: float = hyper(0.1, 0.0, search=(0.01, 1.0), log=True, doc="weight of every task before the first step")
    lr: float = hyper(1e-4, 0.0, search=(1e-5, 1e-2), log=True, doc="step size of the weights")
    primary: tuple[float, ...] = hyper(
        (), 0, tasks="index", doc="indices of the tasks whose validation loss counts; all when empty"
    )
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the weights")

    def init(self, losses: Tensor) -> AutoLambdaState:
        return AutoLambdaState(torch.zeros_like(losses) + self.start, moments(losses))

    def __call__(self, state: AutoLambdaState, signals: Signals) -> tuple[Tensor, AutoLambdaState]:
        align = signals["align"]
        rows = [int(index) for index in self.primary] or list(range(align.shape[-1]))
        gradient = -align[rows].sum(0)
        weights, updated = descend(state.weights, gradient, state.moments, self.lr, optimizer=self.optimizer)
        weights = weights.clamp(min=0)
        return weights, AutoLambdaState(weights, updated)

    def current(self, state: AutoLambdaState, signals: Signals) -> Tensor:  # noqa: ARG002
        return state.weights
