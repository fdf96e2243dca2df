from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.strategies._gramian import cosines, inverse, raised
from mtl.strategies.solvers.simplex import min_norm
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class EDM(Strategy):
    """Equiangular direction method: MGDA on the unit gradients (Katrutsa et al., Follow the Bisector,
    arXiv:2007.06937).

    The shortest vector in the convex hull of the g_k / |g_k| makes the same angle with every gradient that takes part,
    whatever their scales. With its coefficients a the weights are a_k / |g_k|, scaled to sum 1, so that the update
    stays a convex combination of the gradients; unlike `mgda:norm=l2`, its length then follows theirs. That scaling is
    our choice. A gradient of zero gets weight 0.
    """

    name: ClassVar[str] = "edm"
    paper: ClassVar[str] = "Katrutsa et al., Follow the Bisector: Multi-Objective Optimization, 2020"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        unit, norms = cosines(signals["gramian"])
        weights = min_norm(raised(unit, signals["gramian"].dtype)) * inverse(norms)
        return (weights * inverse(weights.sum())).to(signals["gramian"].dtype), state
