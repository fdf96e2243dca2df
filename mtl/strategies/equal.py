from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class Equal(Strategy):
    """Unitary scalarization: w = 1 for every task, so the losses are summed (Kurin et al., NeurIPS 2022)."""

    name: ClassVar[str] = "equal"
    paper: ClassVar[str] = "Kurin et al., In Defense of the Unitary Scalarization, NeurIPS 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        return torch.ones_like(signals["losses"]), state
