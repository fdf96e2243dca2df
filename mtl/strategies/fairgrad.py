from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.solvers.fair import fair
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class FairGrad(Strategy):
    """Alpha-fair gains of the tasks: G w = w^(-1/alpha), w > 0 (Ban & Ji, ICML 2024, eq. 4).

    The update maximises sum_k (g_k . d)^(1 - alpha) / (1 - alpha) over a ball; alpha = 1 is `nash`, and large alpha
    favours the task that gains least. alpha = 2 is the value of the paper's experiments.
    """

    name: ClassVar[str] = "fairgrad"
    paper: ClassVar[str] = "Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    alpha: float = hyper(2.0, 0.1, 10.0, search=(0.5, 5.0), log=True, doc="which fairness: 1 proportional, inf max-min")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        return fair(signals["gramian"], self.alpha), state
