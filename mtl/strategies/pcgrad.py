from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.strategies._gramian import cosines, identity, inverse
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class PCGrad(Strategy):
    """Project each gradient off those it conflicts with, in random order, and add up (Yu et al., NeurIPS 2020, alg. 1).

    For every task i, g_i' starts at g_i and, for the other tasks j in an order of its own, loses its component along
    g_j where g_i' . g_j < 0. All g_i' stay combinations of the original gradients, so K x K coefficients are kept and P
    never enters. The order sorts row i of the signal `noise`.
    """

    name: ClassVar[str] = "pcgrad"
    paper: ClassVar[str] = "Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian", "noise"})

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        unit, norms = cosines(signals["gramian"])
        eye = identity(unit)
        coefficients = eye  # row i: g_i' / |g_i| in the basis of the unit gradients
        for others in signals["noise"].argsort(-1).unbind(-1):
            itself = others == torch.arange(len(unit), device=unit.device)
            overlap = (coefficients * unit[others]).sum(-1)
            removed = torch.where(itself, 0, overlap.clamp(max=0))
            coefficients = coefficients - removed[:, None] * eye[others]
        return ((norms @ coefficients) * inverse(norms)).to(signals["gramian"].dtype), state
