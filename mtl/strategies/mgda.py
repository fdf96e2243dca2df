from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import taking_part, without
from mtl.strategies._objectives import neutral
from mtl.strategies.solvers.simplex import min_norm
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class MGDA(Strategy):
    """The shortest vector in the convex hull of the task gradients (Sener & Koltun, NeurIPS 2018, eq. 4).

    w minimises w^T G w over the simplex; the update is a common descent direction, or zero at a Pareto-stationary one.
    `norm` divides each gradient first, by its norm (`l2`), by its loss (`loss`) or by their product (`loss-l2`, its
    name for which is loss+), as the official code offers; the weights returned then apply to the gradients as they are.
    The problem is solved exactly, where the official code runs Frank-Wolfe with a line search clamped to [0.001,
    0.999]. A gradient whose divisor is zero stays as it is. A gradient of zero makes the point
    stationary: the update is zero, unless the loss is zero as well, when nothing is left for that task to gain and the
    hull is that of the others.
    """

    name: ClassVar[str] = "mgda"
    paper: ClassVar[str] = "Sener & Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    norm: str = hyper("none", choices=("none", "l2", "loss", "loss-l2"), doc="what each gradient is divided by")

    @property
    def domain(self) -> str:  # type: ignore[override]
        return "positive" if self.norm.startswith("loss") else "any"

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian, losses = signals["gramian"], signals["losses"]
        part = taking_part(losses, gramian.diagonal())
        if self.norm == "none":
            return neutral(min_norm(without(gramian, part)), part), state
        length = gramian.diagonal().clamp(min=0).sqrt()
        divisor = {"l2": length, "loss": losses.abs(), "loss-l2": losses.abs() * length}[self.norm]
        divisor = torch.where(divisor > 0, divisor, 1)
        inside = without(gramian / divisor[:, None] / divisor, part)
        return neutral(min_norm(inside) / divisor, part), state
