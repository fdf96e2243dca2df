from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy


class AuxiLearnState(NamedTuple):
    """Learned weights (K,) and their optimizer's moments."""

    weights: Tensor
    moments: Moments


@dataclass(frozen=True)
class AuxiLearn(Strategy):
    """Weights that lower the validation loss at the end of training (Navon et al., ICLR 2021, algorithms 1 and 2).

    By the implicit function theorem the validation loss of the primary tasks at the minimum of sum_k w_k L_k has the
    derivative -grad L_val . H^-1 grad L_k by w_k, H the Hessian of the weighted loss: minus a column sum of the signal
    `implicit`, with `terms` terms of a Neumann series for H^-1. Of the paper's networks that combine the losses this is
    the linear one, with weights kept at or above zero. The primary task has weight 1, the others, its auxiliary tasks,
    learned ones; with `primary` empty the validation loss of all tasks counts and all weights are learned. A Hessian
    product costs a backward pass, and there are K `terms` of them: the authors update the weights at every 30th step or
    so, `auxilearn+every:n=30`. Deviation: the official series lacks the factor `inner_lr`, which scales the gradient.
    """

    name: ClassVar[str] = "auxilearn"
    paper: ClassVar[str] = "Navon et al., Auxiliary Learning by Implicit Differentiation, ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "implicit"})

    lr: float = hyper(1e-3, 0.0, search=(1e-4, 1e-1), log=True, doc="step size of the weights")
    primary: tuple[float, ...] = hyper(
        (), 0, tasks="index", doc="indices of the tasks whose validation loss counts; all when empty"
    )
    terms: int = hyper(3, 0, doc="terms of the Neumann series after the first")
    inner_lr: float = hyper(1e-3, 0.0, search=(1e-5, 1e-1), log=True, doc="step size of the Neumann series")
    max_norm: float = hyper(25.0, 0.0, doc="largest norm of the weights' gradient")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the weights")

    @property
    def measuring(self) -> dict[str, Any]:
        return {"neumann_terms": self.terms, "neumann_lr": self.inner_lr}

    def init(self, losses: Tensor) -> AuxiLearnState:
        return AuxiLearnState(torch.ones_like(losses), moments(losses))

    def __call__(self, state: AuxiLearnState, signals: Signals) -> tuple[Tensor, AuxiLearnState]:
        implicit = signals["implicit"]
        main = torch.zeros_like(state.weights)
        main[[int(index) for index in self.primary]] = 1
        counted = main if self.primary else torch.ones_like(main)
        gradient = -(counted @ implicit) * (1 - main)
        gradient = gradient * (self.max_norm * inverse(torch.linalg.vector_norm(gradient))).clamp(max=1)
        weights, updated = descend(state.weights, gradient, state.moments, self.lr, optimizer=self.optimizer)
        weights = weights.clamp(min=0)
        return weights, AuxiLearnState(weights, updated)

    def current(self, state: AuxiLearnState, signals: Signals) -> Tensor:  # noqa: ARG002
        return state.weights
