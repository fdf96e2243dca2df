from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import spectrum
from mtl.strategies._objectives import per_task
from mtl.strategy import Signals, Strategy


@dataclass(frozen=True)
class AlignedMTL(Strategy):
    """Independent component alignment: the nearest Jacobian with equal singular values, times the preferences
    (Senushkin et al., CVPR 2023, algorithm 1).

    With G = V diag(lambda) V^T the weights are sigma V diag(lambda)^(-1/2) V^T p over the eigenvalues that are more
    than rounding, and sigma^2 their minimum (the paper), median or mean (`rmse`). p is one for every task as in the
    official code when no preference is given. Without any gradient the weights are p.
    """

    name: ClassVar[str] = "aligned"
    paper: ClassVar[str] = "Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    scale: str = hyper("min", choices=("min", "median", "rmse"), doc="which singular value all are set to")
    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="p, weight of each task; one each when empty")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = signals["gramian"].double()
        given = isinstance(self.preference, Tensor) or self.preference
        preference = per_task(self.preference, gramian[0]) if given else torch.ones_like(gramian[0])
        values, vectors, kept = spectrum(gramian, signals["gramian"].dtype)
        rank = kept.sum()
        if self.scale == "min":
            target = torch.where(kept, values, torch.inf).amin()
        elif self.scale == "median":
            lower = (len(values) - rank + (rank - 1) // 2).clamp(max=len(values) - 1)
            target = values.take_along_dim(lower[None], 0)[0]
        else:
            target = torch.where(kept, values, 0).sum() / rank.clamp(min=1)
        inverted = torch.where(kept, (target / torch.where(kept, values, 1)).sqrt(), 0)
        weights = (vectors * inverted) @ (vectors.T @ preference)
        return torch.where(rank > 0, weights, preference).to(signals["gramian"].dtype), state
