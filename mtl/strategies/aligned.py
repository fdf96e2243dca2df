from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import decompose, factor
from mtl.strategies._objectives import per_task
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class AlignedMTL(Strategy):
    """Independent component alignment: the nearest Jacobian with equal singular values, times the preferences
    (Senushkin et al., CVPR 2023, algorithm 1).

    With G = V diag(lambda) V^T the weights are sigma V diag(lambda)^(-1/2) V^T p over the eigenvalues that are more
    than rounding, and sigma^2 their minimum (the paper), median or mean (`rmse`). p is one for every task as in the
    official code when no preference is given. Without any gradient the weights are p. What is rounding is told from the
    cosines, so that lengths may differ by 1e12; the official code takes every eigenvalue below K eps times the largest
    for rounding, which in float32 drops a task 1e3 times smaller than another.
    """

    name: ClassVar[str] = "aligned"
    paper: ClassVar[str] = "Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    scale: str = hyper("min", choices=("min", "median", "rmse"), doc="which singular value all are set to")
    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="p, weight of each task; one each when empty")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = signals["gramian"]
        _, values, vectors, kept = decompose(factor(gramian))  # G = V^T diag(values^2) V
        given = isinstance(self.preference, Tensor) or self.preference
        preference = per_task(self.preference, values) if given else torch.ones_like(values)
        rank = kept.sum()
        if self.scale == "min":
            target = torch.where(kept, values, torch.inf).amin()
        elif self.scale == "median":
            target = values.take_along_dim((rank // 2).clamp(max=len(values) - 1)[None], 0)[0]
        else:
            target = (torch.where(kept, values, 0).square().sum() / rank.clamp(min=1)).sqrt()
        inverted = torch.where(kept, target / values, 0)
        weights = (inverted * (vectors @ preference)) @ vectors
        return torch.where(rank > 0, weights, preference).to(gramian.dtype), state
