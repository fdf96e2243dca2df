from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import raised, rounding
from mtl.strategies._objectives import on_simplex, per_task
from mtl.strategies.solvers.simplex import simplex_qp
from mtl.strategies.strategy import Signals, Strategy

_GRID, _ROUNDS = 17, 7


@dataclass(frozen=True)
class WCMGDA(Strategy):
    """Weighted Chebyshev MGDA: max over the simplex of sum_k a_k r_k (L_k - z_k) - u |sum_k a_k r_k g_k|, weights a_k
    r_k (Momma et al., ICML 2022).

    The first term alone descends on the worst weighted loss (Tchebycheff), the second alone is MGDA on the weighted
    losses r L; u trades them off. The norm is relative to the largest singular value of the weighted gradients, as in
    the authors' code. Deviation: that code also adapts u from step to step so that the first term does not fall; here u
    is fixed.
    """

    name: ClassVar[str] = "wc-mgda"
    paper: ClassVar[str] = "Momma et al., A Framework Induced by Pareto Stationarity, ICML 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    u: float = hyper(0.01, 0.0, search=(1e-3, 10.0), log=True, doc="weight of stationarity against the worst loss")
    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="r, importance of each task; equal when empty")
    ideal: tuple[float, ...] = hyper(
        (0.0,), tasks="each", doc="z, lowest loss that each task can reach; one number serves all tasks"
    )

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses, gramian = signals["losses"].double(), raised(signals["gramian"], signals["gramian"].dtype)
        importance = on_simplex(self.preference, losses)
        gain = importance * (losses - per_task(self.ideal, losses))
        gramian = gramian * importance[:, None] * importance
        largest = torch.linalg.eigvalsh(gramian)[-1]
        gramian = gramian / torch.where(largest > 0, largest, 1)
        floor = rounding(gramian, torch.float64)

        # |v| is the minimum over s > 0 of |v|^2 / (2 s) + s / 2, and what is left to choose is convex in s alone.
        low, high = torch.full_like(largest, floor).log(), torch.zeros_like(largest)
        steps = torch.linspace(0, 1, _GRID, dtype=low.dtype, device=low.device)
        for _ in range(_ROUNDS):
            trials = (low + (high - low) * steps).exp()
            shares = simplex_qp(self.u * gramian / trials[:, None, None], -gain)
            norms = torch.einsum("sk,kl,sl->s", shares, gramian, shares).clamp(min=0)
            cost = self.u * (norms / trials + trials) / 2 - shares @ gain
            best = cost.argmin()
            width = (high - low) / (_GRID - 1)
            middle = low + best * width
            low, high = torch.maximum(middle - width, low), torch.minimum(middle + width, high)
        chosen = shares.take_along_dim(best[None, None], 0)[0]
        return (chosen * importance).to(signals["gramian"].dtype), state
