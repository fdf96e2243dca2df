from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import cosines, inverse, pseudo_solve, rounding
from mtl.strategies._objectives import per_task
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class ConFIG(Strategy):
    """Conflict-free inverse gradients: the direction with equal cosines to every gradient, as long as the gradients'
    projections on it together (Liu et al., ICLR 2025, eq. 2).

    With U the unit gradients the direction is U^+ p, the pseudo-inverse times ones or the preference. As U^+ is U^T C^+
    for the cosines C = U U^T, the weights are (C^+ p) / n with n the norms, and the length sum_k g_k . u needs G alone.
    Gradients of zero get weight 0, and so do all when the direction is zero.
    """

    name: ClassVar[str] = "config"
    paper: ClassVar[str] = "Liu et al., ConFIG: Towards Conflict-free Training of PINNs, ICLR 2025"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="p, ratios of the cosines; equal when empty")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        dtype = signals["gramian"].dtype
        unit, norms = cosines(signals["gramian"])
        given = isinstance(self.preference, Tensor) or self.preference
        wanted = per_task(self.preference, norms) if given else torch.ones_like(norms)
        solution = pseudo_solve(unit, torch.where(norms > 0, wanted, 0), dtype)
        along = unit @ solution
        square = solution @ along
        # A direction of rounding: of nearly opposed gradients, or where none has the cosines wanted, not even roughly.
        least = rounding(unit, dtype)
        real = (square > least * solution.abs().sum() ** 2) & (along.abs().amax() > least * wanted.abs().amax())
        square = torch.where(real, square, 0)
        return ((norms @ along) * inverse(square) * solution * inverse(norms)).to(dtype), state
