from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy


class OLAuxState(NamedTuple):
    """Weights (K,), their optimizer's moments, the sum of products with the main gradient (K,), and its steps."""

    weights: Tensor
    moments: Moments
    products: Tensor
    steps: Tensor


@dataclass(frozen=True)
class OLAux(Strategy):
    """Online learning of auxiliary weights: every N steps w_k rises by the sum of g_main . g_k over them (Lin et al.,
    NeurIPS 2019).

    That sum is, up to the model's step size, how much the auxiliary gradients of N steps lowered the main loss. It is
    the negative gradient by w_k that the optimizer of the weights descends on. The main task has weight 1. Deviations:
    both gradients of a product are those of the same step and batch, where the paper's expansion takes the main
    gradient one step later; the model's step size is left to `lr`; weights stay at or above zero.
    """

    name: ClassVar[str] = "ol-aux"
    paper: ClassVar[str] = "Lin et al., Adaptive Auxiliary Task Weighting for Reinforcement Learning, NeurIPS 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    lr: float = hyper(1e-2, 0.0, search=(1e-4, 1.0), log=True, doc="step size of the weights")
    start: float = hyper(1.0, 0.0, search=(0.1, 1.0), doc="weight of the auxiliary tasks before the first update")
    n: int = hyper(5, 1, doc="N, steps from one update to the next")
    primary: int = hyper(0, 0, tasks="index", doc="index of the main task")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the weights")

    def init(self, losses: Tensor) -> OLAuxState:
        weights = torch.zeros_like(losses) + self.start
        return OLAuxState(self._main(weights), moments(losses), torch.zeros_like(losses), losses.new_zeros(()))

    def _main(self, weights: Tensor) -> Tensor:
        main = torch.arange(weights.shape[-1], device=weights.device) == self.primary
        return torch.where(main, 1, weights)

    def __call__(self, state: OLAuxState, signals: Signals) -> tuple[Tensor, OLAuxState]:
        products = state.products + signals["gramian"][self.primary].to(state.products.dtype)
        steps = state.steps + 1
        due = steps >= self.n
        moved, updated = descend(state.weights, -products, state.moments, self.lr, optimizer=self.optimizer)
        weights = torch.where(due, self._main(moved.clamp(min=0)), state.weights)
        kept = Moments(*(torch.where(due, new, old) for new, old in zip(updated, state.moments, strict=True)))
        after = OLAuxState(weights, kept, torch.where(due, 0, products), torch.where(due, 0, steps))
        return state.weights, after
