from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class RLW(Strategy):
    """Random loss weighting: a new point of the simplex every step (Lin et al., TMLR 2022, algorithm 1).

    `normal` draws w = softmax(z) with z standard normal. `dirichlet` draws w uniformly on the simplex (Dirichlet(1)),
    as exponential variables -log(Phi(z)) divided by their sum.
    """

    name: ClassVar[str] = "rlw"
    paper: ClassVar[str] = "Lin et al., Reasonable Effectiveness of Random Weighting, TMLR 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "noise"})

    distribution: str = hyper("normal", choices=("normal", "dirichlet"), doc="law of the weights")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        draw = signals["noise"].diagonal()
        if self.distribution == "normal":
            return torch.softmax(draw, -1), state
        exponential = -torch.special.ndtr(draw).log()
        return exponential / exponential.sum(), state
