from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse, lengths, rounding
from mtl.strategies.solvers.cagrad import cagrad
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class CAGrad(Strategy):
    """Conflict-averse gradient: the worst task's best direction within c |g_0| of the mean gradient g_0 (Liu et al.,
    NeurIPS 2021, eq. 4 and algorithm 1).

    The update is g_0 + c |g_0| g_w / |g_w|, with w minimising g_w . g_0 + c |g_0| |g_w| over the simplex. `rescale`
    divides it by 1 + c^2 (1, the official code's choice) or 1 + c (2); 0 is the algorithm in print. The official code
    also multiplies by K to match a sum of losses, and runs SLSQP where the problem is solved exactly here. |g_w| is
    kept above its rounding error.
    """

    name: ClassVar[str] = "cagrad"
    paper: ClassVar[str] = "Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    c: float = hyper(0.4, 0.0, search=(0.05, 0.95), doc="radius of the ball around the mean gradient; 0 is the mean")
    rescale: int = hyper(1, 0, 2, doc="0 none, 1 divides by 1 + c^2, 2 divides by 1 + c")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = signals["gramian"].double()
        worst = cagrad(signals["gramian"], self.c).double()
        mean = gramian.mean().clamp(min=0).sqrt()
        least = rounding(gramian, signals["gramian"].dtype) * (worst @ lengths(gramian)) ** 2
        length = (worst @ gramian @ worst).clamp(min=least).sqrt()
        weights = 1 / len(worst) + self.c * mean * inverse(length) * worst
        weights = weights / (1, 1 + self.c**2, 1 + self.c)[self.rescale]
        return weights.to(signals["gramian"].dtype), state
