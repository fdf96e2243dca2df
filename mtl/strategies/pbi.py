from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import on_simplex, per_task
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class PBI(Strategy):
    """Penalty-based boundary intersection: descends on d1 + theta d2, d1 = (L - z) . u the length along the preference
    u = p / |p| and d2 = |L - z - d1 u| the distance from its ray (MOEA/D, Zhang & Li 2007).

    The weights are the gradient u + theta r / d2, r = L - z - d1 u; where d2 = 0 the penalty's part is zero. They turn
    negative for tasks that are ahead of their ray, which sends those losses up.
    """

    name: ClassVar[str] = "pbi"
    paper: ClassVar[str] = "Zhang & Li, MOEA/D, IEEE Transactions on Evolutionary Computation, 2007"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    theta: float = hyper(5.0, 0.0, search=(0.1, 10.0), log=True, doc="penalty on the distance from the ray")
    preference: tuple[float, ...] = hyper(
        (), 0.0, tasks="ratios", doc="p, direction of the ray; equal losses when empty"
    )
    ideal: tuple[float, ...] = hyper((0.0,), tasks="each", doc="z, where the ray starts; one number serves all tasks")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses = signals["losses"]
        direction = on_simplex(self.preference, losses)
        direction = direction / torch.linalg.vector_norm(direction)
        offset = losses - per_task(self.ideal, losses)
        aside = offset - (offset * direction).sum() * direction
        length = torch.linalg.vector_norm(aside)
        # On the ray, what is left of `aside` is rounding, whose direction means nothing.
        off = length > 8 * torch.finfo(losses.dtype).eps * torch.linalg.vector_norm(offset)
        return direction + self.theta * torch.where(off, aside / torch.where(off, length, 1), 0), state
