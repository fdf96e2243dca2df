from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse, lengths, raised
from mtl.strategies._linear_program import simplex_lp
from mtl.strategies._objectives import on_simplex
from mtl.strategies.solvers.simplex import min_norm
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class PMGDA(Strategy):
    """Preference-based MGDA: reach the ray of a preference, then descend as MGDA (Zhang et al., arXiv:2402.09492, eqs.
    18 and 20).

    h = |L - (L . u) u| is the distance of the losses from the ray of the unit preference u; its gradient g_h is a
    combination of the task gradients. While h >= tolerance, v = sum_j mu_j g_j / |g_j| over the tasks and h, mu on the
    simplex, maximises the slowest task's descent min_k g_k . v subject to g_h . v >= sigma |g_h|; the weights are the
    coefficients of v in the g_k and may be negative. The linear program is solved up to 1e-7, G divided by its largest
    entry first. Gradients of zero have no unit vector and take no part.
    """

    name: ClassVar[str] = "pmgda"
    paper: ClassVar[str] = "Zhang et al., PMGDA: A Preference-based Multiple Gradient Descent Algorithm, 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="u, direction of the losses; equal when empty")
    tolerance: float = hyper(1e-3, 0.0, search=(1e-4, 1e-1), log=True, doc="distance from the ray that is near enough")
    sigma: float = hyper(0.1, 0.0, 1.0, search=(0.05, 0.95), doc="how steeply the distance must fall, 1 the steepest")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian, losses = raised(signals["gramian"], signals["gramian"].dtype), signals["losses"].double()
        direction = on_simplex(self.preference, losses)
        direction = direction / torch.linalg.vector_norm(direction)
        aside = losses - (losses @ direction) * direction
        distance = torch.linalg.vector_norm(aside)
        slope = aside * inverse(distance)
        scale = gramian.diagonal().amax()
        gramian = gramian / torch.where(scale > 0, scale, 1)
        rows = torch.cat([torch.eye(len(slope), dtype=slope.dtype, device=slope.device), slope[None]])
        products = rows @ gramian @ rows.T
        norms = lengths(products)
        # x = (mu, t + 1): the slowest descent t is at least -1 because no gradient is longer than one.
        task = torch.arange(len(norms), device=norms.device) < len(slope)
        bound = torch.where(task & (norms > 0), 1.0, 0.0)
        matrix = torch.cat([products * inverse(norms), -bound[:, None]], -1)
        lower = torch.where(task, -bound, self.sigma * norms)
        objective = torch.cat([0 * norms, torch.ones_like(norms[:1])])
        mixture = simplex_lp(objective, matrix, lower, free=1)[:-1]
        correction = (mixture * inverse(norms)) @ rows * inverse(scale.sqrt())
        return torch.where(distance < self.tolerance, min_norm(gramian), correction).to(signals["gramian"].dtype), state
