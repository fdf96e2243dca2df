from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse, taking_part
from mtl.strategies._objectives import neutral
from mtl.strategies.solvers.simplex import project_simplex
from mtl.strategies.strategy import Signals, SizedStrategy


class MoCoState(NamedTuple):
    """Tracked gradients (K, D), weights (K,), and the number of steps made."""

    tracked: Tensor
    weights: Tensor
    step: Tensor


@dataclass(frozen=True)
class MoCo(SizedStrategy):
    """Tracked gradients in place of stochastic ones, against MGDA's bias (Fernando et al., ICLR 2023, algorithm 1).

    Y tracks the task gradients, Y <- Y - beta_t (Y - J), and the weights follow the min-norm problem of Y on the
    simplex, w <- P(w - gamma_t (Y Y^T + rho I) w), with step sizes beta_t = beta / t^beta_sigma, gamma_t = gamma /
    t^gamma_sigma. The update is sum_k w_k Y_k, with the new Y and w as in the authors' code. P is the Euclidean
    projection; with `projection=softmax` and `scaling=loss`, each gradient scaled to the length of its loss, it is the
    variant of LibMTL, written on the authors' code. A task whose loss and tracked gradient are zero has the mean slope
    of the others, and so draws no weight. Deviation: the paper also projects Y on a ball as wide as the gradients'
    Lipschitz constant, which nobody knows.
    """

    name: ClassVar[str] = "moco"
    paper: ClassVar[str] = "Fernando et al., Mitigating Gradient Bias in Multi-objective Learning, ICLR 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "jacobian"})
    tracking: ClassVar[bool] = True

    beta: float = hyper(0.5, 0.0, 1.0, search=(0.05, 1.0), doc="step size of the tracked gradients")
    beta_sigma: float = hyper(0.5, 0.0, search=(0.0, 1.0), doc="power at which beta decays")
    gamma: float = hyper(0.1, 0.0, search=(1e-3, 10.0), log=True, doc="step size of the weights")
    gamma_sigma: float = hyper(0.5, 0.0, search=(0.0, 1.0), doc="power at which gamma decays")
    rho: float = hyper(0.0, 0.0, search=(0.0, 1.0), doc="l2 penalty on the weights")
    projection: str = hyper("simplex", choices=("simplex", "softmax"), doc="how weights are brought to the simplex")
    scaling: str = hyper("none", choices=("none", "loss"), doc="length that each gradient is scaled to")

    def init_sized(self, losses: Tensor, dimension: int) -> MoCoState:
        uniform = torch.full_like(losses, 1 / len(losses))
        return MoCoState(losses.new_zeros(len(losses), dimension), uniform, losses.new_zeros(()))

    def __call__(self, state: MoCoState, signals: Signals) -> tuple[Tensor, MoCoState]:
        rows = signals["jacobian"].to(state.tracked.dtype)
        if self.scaling == "loss":
            rows = rows * (signals["losses"] * inverse(torch.linalg.vector_norm(rows, dim=-1)))[:, None]
        step = state.step + 1
        tracked = state.tracked - self.beta / step**self.beta_sigma * (state.tracked - rows)
        slope = tracked @ (state.weights @ tracked) + self.rho * state.weights
        slope = neutral(slope, taking_part(signals["losses"], tracked.abs().amax(-1)))
        moved = state.weights - self.gamma / step**self.gamma_sigma * slope
        weights = project_simplex(moved) if self.projection == "simplex" else torch.softmax(moved, -1)
        return weights, MoCoState(tracked, weights, step)

    def gradients(self, state: MoCoState, jacobian: Tensor) -> Tensor:  # noqa: ARG002
        return state.tracked
