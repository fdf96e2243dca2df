from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import on_simplex
from mtl.strategies.solvers.cone import project_cone
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class UPGrad(Strategy):
    """Unconflicting projection of gradients: each p_k g_k projected onto the cone of directions that conflict with no
    gradient, and the projections added (Quinton & Rey, Jacobian Descent, arXiv:2406.16232, eq. 3 and proposition 1).

    The weights of projection k are argmin v^T G v over v >= p_k e_k; p is 1/K each without a preference. G is divided
    by its trace and raised by `reg_eps` on its diagonal, as in the authors' library, so `reg_eps` = 0 is the exact
    projection. Deviation: however small, G is never taken for zero (their norm_eps = 1e-4), so the weights do not
    depend on its scale.
    """

    name: ClassVar[str] = "upgrad"
    paper: ClassVar[str] = "Quinton & Rey, Jacobian Descent for Multi-Objective Optimization, 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="p, importance of each task; equal when empty")
    reg_eps: float = hyper(1e-4, 0.0, doc="ridge on the Gramian, relative to its trace")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = signals["gramian"]
        preference = on_simplex(self.preference, gramian[0])
        return project_cone(gramian, preference.diag_embed(), norm_eps=0.0, reg_eps=self.reg_eps).sum(0), state
