from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse, taking_part
from mtl.strategies._objectives import neutral
from mtl.strategies.solvers.simplex import project_simplex
from mtl.strategies.strategy import Signals, Strategy


class SDMGradState(NamedTuple):
    """Weights on the simplex (K,), from where the next step's solver starts."""

    weights: Tensor


@dataclass(frozen=True)
class SDMGrad(Strategy):
    """MGDA drawn towards the mean gradient, from three independent batches (Xiao et al., NeurIPS 2023, algorithm 1).

    w minimises |J^T w + lam g_0|^2 over the simplex, g_0 the mean gradient, by `iterations` projected steps of gradient
    descent with momentum along A (w + lam / K), A = J' J''^T of two further batches; the update is J^T w + lam g_0 with
    the gradients of this batch, so the weights are w + lam / K. As in the official code A is divided by the squared
    mean of the square roots of its diagonal, the momentum starts anew at each step and w does not. A task
    whose loss and gradients are zero has the mean slope of the others, and so draws no weight. Deviations: diagonal
    entries below zero, which two batches can give, count as zero (the official root of a negative number is NaN); the
    official code also divides the update by 1 + lam, and writes all three batches into one and the same tensor.
    """

    name: ClassVar[str] = "sdmgrad"
    paper: ClassVar[str] = "Xiao et al., Direction-oriented Multi-objective Learning, NeurIPS 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "cross"})

    lam: float = hyper(0.3, 0.0, search=(0.1, 10.0), log=True, doc="pull towards the mean gradient")
    lr: float = hyper(10.0, 0.0, search=(1.0, 20.0), log=True, doc="step size of the solver")
    momentum: float = hyper(0.5, 0.0, 1.0, search=(0.0, 0.95), doc="momentum of the solver")
    iterations: int = hyper(20, 1, doc="steps of the solver")

    def init(self, losses: Tensor) -> SDMGradState:
        return SDMGradState(torch.full_like(losses, 1 / len(losses)))

    def __call__(self, state: SDMGradState, signals: Signals) -> tuple[Tensor, SDMGradState]:
        product = signals["cross"]
        scale = product.diagonal().clamp(min=0).sqrt().mean()
        product = product * inverse(scale) * inverse(scale)
        part = taking_part(signals["losses"], product.diagonal())
        weights, velocity = state.weights, torch.zeros_like(state.weights)
        pull = self.lam / weights.shape[-1]
        for _ in range(self.iterations):
            velocity = self.momentum * velocity + neutral(product @ (weights + pull), part)
            weights = project_simplex(weights - self.lr * velocity)
        return weights + pull, SDMGradState(weights)
