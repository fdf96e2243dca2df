from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class Static(Strategy):
    """Fixed weights: w is the given point, scaled onto the simplex (scalarization; Xin et al., NeurIPS 2022).

    Only the ratios of `weights` matter: they are divided by their sum. Without any, all tasks weigh the same.
    """

    name: ClassVar[str] = "static"
    paper: ClassVar[str] = "Xin et al., Do Current Multi-Task Optimization Methods Even Help?, NeurIPS 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    weights: tuple[float, ...] = hyper(
        (), 0.0, tasks="ratios", search=(0.01, 1.0), doc="one a task, in the order of the tasks"
    )

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses = signals["losses"]
        if not isinstance(self.weights, Tensor) and not self.weights:
            return torch.full_like(losses, 1 / losses.shape[-1]), state
        weights = torch.as_tensor(self.weights, dtype=losses.dtype, device=losses.device)
        return weights / weights.sum(), state
