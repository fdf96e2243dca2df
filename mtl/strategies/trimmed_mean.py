from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class TrimmedMean(Strategy):
    """Coordinate-wise trimmed mean: in each coordinate the largest and smallest beta K entries are left out of the mean
    (Yin et al., ICML 2018, definition 2).

    The weights (K, D) are 1 / (K - 2 b) for the entries that stay and zero for the others, with b = beta K rounded
    down.
    """

    name: ClassVar[str] = "trimmed-mean"
    paper: ClassVar[str] = "Yin et al., Byzantine-Robust Distributed Learning, ICML 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "jacobian"})
    elementwise: ClassVar[bool] = True

    fraction: float = hyper(0.25, 0.0, 0.499, doc="beta, share of the tasks left out at either end")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        jacobian = signals["jacobian"]
        count = len(jacobian)
        trimmed = self.fraction * count // 1
        rank = jacobian.argsort(dim=0, stable=True).argsort(dim=0)
        stays = (rank >= trimmed) & (rank < count - trimmed)
        return stays.to(jacobian.dtype) / (count - 2 * trimmed), state
