from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, on_simplex
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class COSMOS(Strategy):
    """Linear scalarization with a pull towards the preference's direction: descends on p . L - lambda cos(p, L) (Ruchte
    & Grabocka, ICDM 2021).

    The weights are p - lambda (p / |p| - cos(p, L) L / |L|) / |L|, so tasks below their share are let go. Deviation:
    the paper draws p from a Dirichlet distribution every step and feeds it to the network, which so learns the whole
    front; here p is one fixed preference and the network stays as it is. Where all losses are zero there is no pull.
    """

    name: ClassVar[str] = "cosmos"
    paper: ClassVar[str] = "Ruchte & Grabocka, Scalable Pareto Front Approximation for Deep MOL, ICDM 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    penalty: float = hyper(2.0, 0.0, search=(0.01, 10.0), log=True, doc="lambda, weight of the cosine similarity")
    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="p, importance of each task; equal when empty")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses = signals["losses"]
        preference = on_simplex(self.preference, losses)
        direction = preference / torch.linalg.vector_norm(preference)
        length = torch.linalg.vector_norm(losses)
        length = torch.where(length > FLOOR, length, torch.inf)
        unit = losses / length
        cosine = (direction * unit).sum()
        return preference - self.penalty * (direction - cosine * unit) / length, state
