from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import on_simplex, per_task
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class Tchebycheff(Strategy):
    """Weighted Tchebycheff scalarization: descends on max_k p_k (L_k - z_k) (Steuer & Choo 1983; MOEA/D, Zhang & Li
    2007).

    p is the preference on the simplex and z the ideal point; every Pareto optimum is the optimum for some p. The weight
    is p_k for the task that attains the maximum and zero for the others; several at the maximum share it equally. With
    equal preferences it is the worst-case (minimax) loss. Deviation: the distance L - z keeps its sign, as the ideal
    point bounds the losses from below.
    """

    name: ClassVar[str] = "tchebycheff"
    paper: ClassVar[str] = "Zhang & Li, MOEA/D, IEEE Transactions on Evolutionary Computation, 2007"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="p, importance of each task; equal when empty")
    ideal: tuple[float, ...] = hyper(
        (0.0,), tasks="each", doc="z, lowest loss that each task can reach; one number serves all tasks"
    )

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses = signals["losses"]
        preference = on_simplex(self.preference, losses)
        distance = preference * (losses - per_task(self.ideal, losses))
        worst = (distance == distance.amax(-1, keepdim=True)).to(losses.dtype)
        return preference * worst / worst.sum(), state
