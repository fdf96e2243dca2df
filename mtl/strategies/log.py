from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.strategies._objectives import neutral, positive
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class Log(Strategy):
    """Scale-invariant loss: descends on sum_k log L_k, so w = 1 / L (the baseline SI of Navon et al., ICML 2022).

    The update does not change when a loss is multiplied by a constant. These are also the weights of UW-O (Kirchdorfer
    et al., GCPR 2024), the analytic optimum of uncertainty weighting. A task whose loss is
    not positive has the mean weight of the others.
    """

    name: ClassVar[str] = "log"
    paper: ClassVar[str] = "Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses, counts = positive(signals["losses"])
        return neutral(1 / losses, counts), state
