from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse
from mtl.strategies.solvers.nash import nash
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class NashMTL(Strategy):
    """The Nash bargaining solution: G a = 1 / a, a > 0 (Navon et al., ICML 2022, algorithm 1).

    The update sum_k a_k g_k maximises the product of the tasks' gains g_k . d over a ball. It solves the equation only
    with length sqrt(K), whatever the gradients; `max_norm` caps that, at 1 in the official code. Here the equation is
    solved to rounding and without memory; the official solver can stop at weights that do not solve it when norms
    differ 100-fold. The paper's update of the weights every n steps is the combinator `every`.
    """

    name: ClassVar[str] = "nash"
    paper: ClassVar[str] = "Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    max_norm: float = hyper(0.0, 0.0, doc="longest update; 0 sets no limit")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        gramian = signals["gramian"].double()
        weights = nash(signals["gramian"]).double()
        limit = torch.as_tensor(self.max_norm, dtype=weights.dtype, device=weights.device)
        length = (weights @ gramian @ weights).clamp(min=0).sqrt()
        capped = torch.where((limit > 0) & (length > limit), limit * inverse(length), 1)
        return (weights * capped).to(signals["gramian"].dtype), state
