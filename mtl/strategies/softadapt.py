from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


class SoftAdaptState(NamedTuple):
    """The losses of the previous step (K,; NaN before the first)."""

    losses: Tensor


@dataclass(frozen=True)
class SoftAdapt(Strategy):
    """Softmax of the losses' slopes: w = softmax(beta s), s = L(t) - L(t-1) (Heydari et al., arXiv:1912.12355, section
    3.1).

    Positive beta favours tasks that fall slowly or rise, negative beta those that fall fast. `normalized` divides s by
    sum_j |s_j|, which makes beta independent of the losses' scale; `loss-weighted` multiplies the exponentials by the
    mean of the losses that the slope was taken over. Deviations: the slope is the plain difference of the last two
    steps, where the official code fits finite differences of up to fifth order to a longer history; that code
    normalises by sum_j s_j, which flips every sign when the losses fall. The first step has no slope and weighs all
    tasks 1/K.
    """

    name: ClassVar[str] = "softadapt"
    paper: ClassVar[str] = "Heydari, Thompson & Mehmood, SoftAdapt, arXiv:1912.12355, 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    beta: float = hyper(0.1, search=(-1.0, 10.0), doc="how strongly slopes count; 0 gives equal weights")
    variant: str = hyper("original", choices=("original", "normalized", "loss-weighted"), doc="form of the softmax")

    @property
    def domain(self) -> str:  # type: ignore[override]
        return "nonnegative" if self.variant == "loss-weighted" else "any"

    def init(self, losses: Tensor) -> SoftAdaptState:
        return SoftAdaptState(torch.full_like(losses, torch.nan))

    def __call__(self, state: SoftAdaptState, signals: Signals) -> tuple[Tensor, SoftAdaptState]:
        losses = signals["losses"]
        started = ~state.losses.isnan()
        before = torch.where(started, state.losses, losses)
        slope = losses - before
        if self.variant == "normalized":
            total = slope.abs().sum()
            slope = slope / torch.where(total > 0, total, 1)
        weights = torch.softmax(self.beta * slope, -1)
        if self.variant == "loss-weighted":
            size = (losses + before).clamp(min=0)
            size = torch.where(started & (size.sum() > 0), size, 1)
            weights = torch.softmax(self.beta * slope + size.log(), -1)
        return weights, SoftAdaptState(losses)
