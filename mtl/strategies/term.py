from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class TERM(Strategy):
    """Tilted losses, a smooth maximum: descends on (1/t) log(mean_k exp(t L_k)), so w = softmax(t L) (Li et al., ICLR
    2021; tilting over groups).

    Tilt t > 0 favours tasks with large losses, up to the worst one alone, t < 0 those with small ones; t = 0 averages.
    The balanced multi-task learning of Liang & Zhang (2020), which descends on sum_k exp(t L_k), has the same
    direction.
    """

    name: ClassVar[str] = "term"
    paper: ClassVar[str] = "Li et al., Tilted Empirical Risk Minimization, ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    tilt: float = hyper(1.0, search=(-2.0, 10.0), doc="t, from the best task (negative) over the mean (0) to the worst")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        return torch.softmax(self.tilt * signals["losses"], -1), state
