"""What a population holds of its members, as those see it who step or move them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtl.population.dropout import Call, Rates
from mtl.population.program import Program
from mtl.population.streams import Streams
from mtl.strategies.strategy import Strategy


class HeldMembers(Protocol):
    """N members.

    Attributes:
        state: every tensor that a member owns, with a leading member axis.
        counts: numbers of each member that the host counts.
        values: settings of the optimizer and of `Population.set_values`, (N, 1) each; (N, T) where the T tensors of a
            member may differ in it.
        noise, random: the random numbers of strategies, and of dropout.
        strategies, different: a strategy each, and the hyperparameters in which they differ, with a member axis.
        reach, dropouts: which tensors each loss reaches, and the dropouts of a forward pass; empty before the first.
        even: whether all tensors of all members got a gradient in every step so far.
    """

    size: int
    device: torch.device
    program: Program
    state: dict[str, Any]
    counts: dict[str, npt.NDArray[np.int64]]
    values: dict[str, Tensor]
    noise: Streams
    random: Streams
    dropout: list[Rates] | None
    different: dict[str, Tensor]
    reach: Tensor
    dropouts: list[Call]
    even: bool
    head_weighting: str
    scale: str
    steps_per_epoch: int

    @property
    def strategies(self) -> Sequence[Strategy]: ...
    def set_values(self, **settings: Any) -> None: ...
    def set_strategies(self, strategies: Sequence[str | Strategy]) -> None: ...
    def read_after(self, masks: list[Tensor] | None = None) -> None: ...
    def masks(self, who: Sequence[bool] | None) -> list[Tensor]: ...
