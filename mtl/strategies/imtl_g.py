from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.strategies._gramian import cosines, identity, inverse, rounding
from mtl.strategies.strategy import Signals, Strategy

_RIDGE = 1e-11


@dataclass(frozen=True)
class IMTLG(Strategy):
    """Gradient balance of impartial multi-task learning: equal projections of the update on every unit gradient, sum w
    = 1 (Liu et al., ICLR 2021, eq. 5).

    With C the cosines and n the norms, w is proportional to (C^-1 1) / n. A ridge of 1e-11 (in float32, of a few
    rounding units) selects one of many solutions when gradients depend on each other, and the solution with zero
    projections when no other exists. The sum of (C^-1 1) / n can be negative for gradients of very different norms; the
    paper's formula, followed here, then ascends along all tasks. A gradient of zero gets weight 0.
    """

    name: ClassVar[str] = "imtl-g"
    paper: ClassVar[str] = "Liu et al., Towards Impartial Multi-task Learning, ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = signals["gramian"]
        unit, norms = cosines(gramian)
        ridge = max(_RIDGE, rounding(unit, gramian.dtype))
        ones, raised = torch.ones_like(norms), unit + ridge * identity(unit)
        direction = torch.linalg.solve_ex(raised, ones)[0]
        # Once more for what the ridge took: its relative part of an eigenvalue is squared.
        direction = direction + torch.linalg.solve_ex(raised, ones - unit @ direction)[0]
        weights = direction * inverse(norms)
        total, least = weights.sum(), rounding(unit, gramian.dtype) * weights.abs().sum()
        return (weights / torch.where(total.abs() > least, total, least.clamp(min=1e-300))).to(gramian.dtype), state
