from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import positive, shares
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class UWSO(Strategy):
    """Soft optimal uncertainty weighting: w = softmax((1 / L) / T) (Kirchdorfer et al., GCPR 2024).

    1 / L is the analytic optimum of the uncertainty weights for an L1 likelihood; the softmax with a temperature, tuned
    per data set, keeps one small loss from taking over. The losses are constants here, as in the paper. A task
    whose loss is not positive weighs 1/K, and the others share the rest.
    """

    name: ClassVar[str] = "uw-so"
    paper: ClassVar[str] = "Kirchdorfer et al., Analytical Uncertainty-Based Loss Weighting in MTL, GCPR 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    temperature: float = hyper(1.0, 1e-3, search=(0.1, 100.0), log=True, doc="T; weights even out as it grows")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses, counts = positive(signals["losses"])
        return shares(1 / losses / self.temperature, counts), state
