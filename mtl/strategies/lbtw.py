from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, positive
from mtl.strategies.strategy import Signals, Strategy


class LBTWState(NamedTuple):
    """Losses of the epoch's first batch (K,; NaN before the first step), and the epoch that they belong to."""

    initial: Tensor
    epoch: Tensor


@dataclass(frozen=True)
class LBTW(Strategy):
    """Loss-balanced task weighting: w = (L / L(0))^alpha, L(0) from the first batch of each epoch (Liu et al., AAAI
    2019, algorithm 1).

    The reference is read again at every epoch's start, where all weights are 1. The official code then scales the
    weights to sum K; that is left to whoever applies them. A task whose losses have
    all been zero has the mean weight of the others; its first positive one is its L(0). Losses below zero count as
    zero.
    """

    name: ClassVar[str] = "lbtw"
    paper: ClassVar[str] = "Liu, Liang & Gitter, Loss-Balanced Task Weighting to Reduce Negative Transfer, AAAI 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "epoch"})
    domain: ClassVar[str] = "positive"

    alpha: float = hyper(0.5, 0.0, search=(0.1, 1.0), doc="how strongly slow tasks are favoured")

    def init(self, losses: Tensor) -> LBTWState:
        return LBTWState(torch.full_like(losses, torch.nan), losses.new_zeros(()))

    def __call__(self, state: LBTWState, signals: Signals) -> tuple[Tensor, LBTWState]:
        losses, epoch = signals["losses"].clamp(min=0), signals["epoch"].to(signals["losses"].dtype)
        kept = (state.initial > FLOOR) & (epoch == state.epoch)
        initial = torch.where(kept, state.initial, losses)
        divisor, counts = positive(initial)
        share = torch.where(initial > FLOOR, losses / divisor, 1)
        return neutral(share**self.alpha, counts), LBTWState(initial, epoch)
