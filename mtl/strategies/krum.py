from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class Krum(Strategy):
    """Multi-Krum: the mean of the m gradients with the smallest sums of squared distances to their K - f - 2 nearest
    others (Blanchard et al., NeurIPS 2017).

    Distances |g_i - g_j|^2 = G_ii + G_jj - 2 G_ij need G alone. f is the number of gradients that may be arbitrary.
    Some public code adds up distances instead of their squares. Deviation: at least one neighbour counts, so that K = 2
    and 3 are defined.
    """

    name: ClassVar[str] = "krum"
    paper: ClassVar[str] = "Blanchard et al., Machine Learning with Adversaries, NeurIPS 2017"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    outliers: int = hyper(0, 0, doc="f, gradients that may be arbitrary")
    selected: int = hyper(1, 1, doc="m, gradients to average")

    def check_tasks(self, num_tasks: int) -> None:
        if self.outliers > num_tasks - 2 or self.selected > num_tasks:
            raise ValueError(
                f"krum: outliers={self.outliers} and selected={self.selected} leave no choice among {num_tasks} tasks"
            )

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = (signals["gramian"] + signals["gramian"].mT) / 2  # equal scores stay equal, whatever the rounding
        squares = gramian.diagonal()
        distances = (squares[:, None] + squares - 2 * gramian).clamp(min=0)
        apart = torch.where(torch.eye(len(squares), dtype=torch.bool, device=squares.device), torch.inf, distances)
        neighbours = max(len(squares) - self.outliers - 2, 1)
        score = apart.topk(neighbours, largest=False).values.sum(-1)
        rank = score.argsort(stable=True).argsort()
        return (rank < self.selected).to(gramian.dtype) / self.selected, state
