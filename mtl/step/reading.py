"""The losses of the previous batch, read again at the parameters that the optimizer's step led to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtl.step.collect import Collector, Losses
from mtl.step.passes import frozen_statistics, random_states, replayed_randomness


class SecondReading:
    """Reads each batch a second time, when the next step begins.

    Attributes:
        after: (K,) the losses read last, None before any.
    """

    def __init__(self) -> None:
        self.after: Tensor | None = None
        self._due: tuple[Callable[[], Losses], tuple[Tensor, Tensor | None]] | None = None

    def plan(self, recompute: Callable[[], Losses], device: torch.device) -> None:
        """Read this batch again when the next step begins, with the dropout that would be drawn now."""
        self._due = recompute, random_states(device)

    def read(self, collect: Collector, device: torch.device) -> bool:
        """Read the batch that is due; whether there was one."""
        if self._due is None:
            return False
        recompute, states = self._due
        with torch.no_grad(), frozen_statistics(), replayed_randomness(states, device):
            self.after = collect(recompute(), differentiable=False).values
        self._due = None
        return True

    def load(self, after: Tensor | None, device: torch.device) -> None:
        """Go on from losses read earlier."""
        self.after, self._due = None if after is None else after.to(device, copy=True), None
