from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.strategies._gramian import raised, without
from mtl.strategies._objectives import neutral, positive
from mtl.strategies.solvers.simplex import min_norm
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class LogMGDA(Strategy):
    """MGDA on the logarithms of the losses: min |sum_k a_k grad log L_k| over the simplex, weights a_k / L_k.

    The logarithm takes the units of the losses out of MGDA (Sener & Koltun, NeurIPS 2018, whose normalisation `loss` it
    equals); it is the multi-objective counterpart of the scale-invariant sum of logs (Navon et al., ICML 2022). A task
    whose loss is not positive has no logarithm: the hull is that of the others, and it has their mean weight.
    """

    name: ClassVar[str] = "log-mgda"
    paper: ClassVar[str] = "Sener & Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})
    domain: ClassVar[str] = "positive"

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        dtype = signals["gramian"].dtype
        losses, counts = positive(signals["losses"].double())
        gramian = raised(signals["gramian"], dtype) / losses[:, None] / losses
        return neutral(min_norm(without(gramian, counts)) / losses, counts).to(dtype), state
