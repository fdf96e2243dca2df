from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy


class GradNormState(NamedTuple):
    """Learned weights (K,), first positive losses L(0) (K,; NaN or zero until seen), and the optimizer's moments."""

    weights: Tensor
    initial: Tensor
    moments: Moments


@dataclass(frozen=True)
class GradNorm(Strategy):
    """Weights that bring each w_i |g_i| to the mean norm times r_i^alpha (Chen et al., ICML 2018, eqs. 1-2, alg. 1).

    r_i = (L_i / L_i(0)) / mean_j(L_j / L_j(0)) is a task's inverse training rate. With the target held constant, the
    objective sum_i |w_i |g_i| - target_i| has the gradient sign(w_i |g_i| - target_i) |g_i|, so no double backward is
    needed. The weights are renormalised to sum K after every update. A task whose loss is not positive has the mean
    rate, 1, and L_i(0) is its first positive one; a task without a gradient has no part in the mean norm. Deviation: a
    weight that a step takes below zero is set to zero, from where the objective pulls it up again; the paper leaves the
    sign open. The norms are those on the parameters that the Gramian is measured on: the paper takes the last shared
    layer.
    """

    name: ClassVar[str] = "gradnorm"
    paper: ClassVar[str] = "Chen et al., GradNorm, ICML 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})
    domain: ClassVar[str] = "positive"

    alpha: float = hyper(1.5, 0.0, search=(0.05, 3.0), log=True, doc="how strongly slow tasks are favoured")
    lr: float = hyper(0.025, 0.0, search=(1e-3, 1e-1), log=True, doc="step size of the weights")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the weights")

    def init(self, losses: Tensor) -> GradNormState:
        return GradNormState(torch.ones_like(losses), torch.full_like(losses, torch.nan), moments(losses))

    def __call__(self, state: GradNormState, signals: Signals) -> tuple[Tensor, GradNormState]:
        losses = signals["losses"]
        initial = torch.where(state.initial > FLOOR, state.initial, losses)
        known = (initial > FLOOR) & (losses > FLOOR)
        progress = torch.where(known, losses / torch.where(known, initial, 1), 0)
        rate = torch.where(known, progress * (known.sum() / progress.sum()), 1)
        norms = signals["gramian"].diagonal().clamp(min=0).sqrt()
        scaled = state.weights * norms
        target = scaled.sum() / (norms > 0).sum().clamp(min=1) * rate**self.alpha
        gradient = torch.sign(scaled - target) * norms
        weights, updated = descend(state.weights, gradient, state.moments, self.lr, optimizer=self.optimizer)
        weights = weights.clamp(min=0)
        total = weights.sum()  # zero after a step that takes all of them below it
        weights = torch.where(total > 0, weights * (weights.shape[-1] / total), 1)
        return state.weights, GradNormState(weights, initial, updated)
