from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import on_simplex
from mtl.strategies.solvers.cone import project_cone
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class DualProj(Strategy):
    """The mean gradient projected onto the cone of directions that conflict with no gradient (GEM; Lopez-Paz & Ranzato,
    NeurIPS 2017, eq. 11).

    The weights are argmin v^T G v over v >= p; p is 1/K each without a preference. G is divided by its trace and raised
    by `reg_eps` on its diagonal, so `reg_eps` = 0 is the exact projection; as for `upgrad`, G is never taken for zero.
    """

    name: ClassVar[str] = "dualproj"
    paper: ClassVar[str] = "Lopez-Paz & Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="p, importance of each task; equal when empty")
    reg_eps: float = hyper(1e-4, 0.0, doc="ridge on the Gramian, relative to its trace")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = signals["gramian"]
        preference = on_simplex(self.preference, gramian[0])
        return project_cone(gramian, preference, norm_eps=0.0, reg_eps=self.reg_eps), state
