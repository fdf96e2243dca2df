from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import cosines
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class GradientCosineSimilarity(Strategy):
    """Auxiliary tasks take part as far as their gradient agrees with the main task's (Du et al., arXiv:1812.02224).

    The weight of an auxiliary task is max(0, cos(g_main, g_k)), or with `gate` = "hard" one where that cosine is not
    negative and zero elsewhere (the unweighted version); the main task has weight 1.
    """

    name: ClassVar[str] = "gcs"
    paper: ClassVar[str] = "Du et al., Adapting Auxiliary Losses Using Gradient Similarity, 2018"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    primary: int = hyper(0, 0, tasks="index", doc="index of the main task")
    gate: str = hyper("cosine", choices=("cosine", "hard"), doc="weight by the cosine, or by its sign")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        unit, _ = cosines(signals["gramian"])
        cosine = unit[self.primary]
        weights = (cosine >= 0).to(cosine.dtype) if self.gate == "hard" else cosine.clamp(min=0)
        main = torch.arange(len(weights), device=weights.device) == self.primary
        return torch.where(main, 1, weights).to(signals["gramian"].dtype), state
