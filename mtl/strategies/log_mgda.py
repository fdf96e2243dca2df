from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.solvers.simplex import min_norm
from mtl.strategies._gramian import raised
from mtl.strategies._objectives import positive
from mtl.strategy import Signals, Strategy


@dataclass(frozen=True)
class LogMGDA(Strategy):
    """MGDA on the logarithms of the losses: min |sum_k a_k grad log L_k| over the simplex, weights a_k / L_k.

    The logarithm takes the units of the losses out of MGDA (Sener & Koltun, NeurIPS 2018, whose normalisation `loss` it
    equals); it is the multi-objective counterpart of the scale-invariant sum of logs (Navon et al., ICML 2022). Losses
    are kept above 1e-20.
    """

    name: ClassVar[str] = "log-mgda"
    paper: ClassVar[str] = "Sener & Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses = positive(signals["losses"]).double()
        gramian = raised(signals["gramian"], signals["gramian"].dtype) / losses[:, None] / losses
        return (min_norm(gramian) / losses).to(signals["gramian"].dtype), state
