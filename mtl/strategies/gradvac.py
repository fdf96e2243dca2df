from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import cosines, identity, inverse
from mtl.strategies.strategy import Signals, Strategy

_LEAST_SINE = 1e-4


class GradVacState(NamedTuple):
    """Target cosines rho (K, K): row i for the gradient that is changed."""

    targets: Tensor


@dataclass(frozen=True)
class GradVac(Strategy):
    """Gradient vaccine: raise each cosine to its moving average (Wang et al., ICLR 2021, algorithm 1).

    For every task i and the others j in random order, with c = cos(g_i', g_j) < rho_ij, g_i' gains |g_i'| (rho sqrt(1 -
    c^2) - c sqrt(1 - rho^2)) / (|g_j| sqrt(1 - rho^2)) g_j, which makes the cosine rho_ij; then rho_ij <- (1 - beta)
    rho_ij + beta c, from zero, where this equals PCGrad. K x K coefficients suffice. The order sorts row i of the
    signal `noise`. Deviations: one rho a pair of tasks, that of the whole gradients, where the paper also has one a
    layer; sqrt(1 - rho^2) is kept above 1e-4. The paper's beta is 0.01; public code often has 0.5.
    """

    name: ClassVar[str] = "gradvac"
    paper: ClassVar[str] = "Wang et al., Gradient Vaccine, ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian", "noise"})

    beta: float = hyper(0.01, 0.0, 1.0, search=(1e-3, 0.9), log=True, doc="share of the new cosine in the average")

    def init(self, losses: Tensor) -> GradVacState:
        return GradVacState(losses.new_zeros(losses.shape[-1], losses.shape[-1]))

    def __call__(self, state: GradVacState, signals: Signals) -> tuple[Tensor, GradVacState]:
        unit, norms = cosines(signals["gramian"])
        eye, targets = identity(unit), state.targets.double()
        coefficients = eye  # row i: g_i' / |g_i| in the basis of the unit gradients
        for others in signals["noise"].argsort(-1).unbind(-1):
            itself = others == torch.arange(len(unit), device=unit.device)
            length = ((coefficients @ unit) * coefficients).sum(-1).clamp(min=0).sqrt()
            cosine = ((coefficients * unit[others]).sum(-1) * inverse(length)).clamp(-1, 1)
            target = (targets * eye[others]).sum(-1)
            sine, aimed = (1 - cosine**2).sqrt(), (1 - target**2).clamp(min=_LEAST_SINE**2).sqrt()
            gain = length * (target * sine - cosine * aimed) / aimed
            gain = torch.where((cosine < target) & ~itself, gain, 0)
            coefficients = coefficients + gain[:, None] * eye[others]
            moved = torch.where(itself, 0, self.beta * (cosine - target))
            targets = targets + moved[:, None] * eye[others]
        weights = (norms @ coefficients) * inverse(norms)
        return weights.to(signals["gramian"].dtype), GradVacState(targets.to(state.targets.dtype))
