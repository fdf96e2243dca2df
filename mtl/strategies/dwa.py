from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR
from mtl.strategies.strategy import Signals, Strategy


class DWAState(NamedTuple):
    """Losses of the running epoch summed (K,) over `steps`, the last two epochs' means (K,), and where we are."""

    total: Tensor
    steps: Tensor
    last: Tensor
    before: Tensor
    epoch: Tensor
    finished: Tensor


@dataclass(frozen=True)
class DWA(Strategy):
    """Dynamic weight average: w = K softmax(r / T), r = L(t-1) / L(t-2) of epoch means (Liu et al., CVPR 2019, eq. 7).

    L(t) is a task's mean loss over epoch t. The first two epochs have no such ratio and use w = 1, so that the window
    starts with two real epochs. The ratio to an epoch whose mean is not positive is 1.
    """

    name: ClassVar[str] = "dwa"
    paper: ClassVar[str] = "Liu, Johns & Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "epoch"})
    domain: ClassVar[str] = "positive"

    temperature: float = hyper(2.0, 1e-3, search=(0.2, 10.0), log=True, doc="T; weights even out as it grows")

    def init(self, losses: Tensor) -> DWAState:
        zeros, ones, scalar = torch.zeros_like(losses), torch.ones_like(losses), losses.new_zeros(())
        return DWAState(zeros, scalar, ones, ones, scalar, scalar)

    def __call__(self, state: DWAState, signals: Signals) -> tuple[Tensor, DWAState]:
        losses = signals["losses"]
        epoch = signals["epoch"].to(losses.dtype)
        # Steps that were skipped may leave an epoch without a single loss: it does not count as a finished one.
        ended = (epoch != state.epoch) & (state.steps > 0)
        mean = state.total / state.steps.clamp(min=1)
        last, before = torch.where(ended, mean, state.last), torch.where(ended, state.last, state.before)
        finished = state.finished + ended
        total = torch.where(ended, 0, state.total) + losses
        steps = torch.where(ended, 0, state.steps) + 1
        known = before > FLOOR  # of an epoch without loss there is no rate
        ratio = torch.where(known, last / torch.where(known, before, 1), 1)
        balanced = losses.shape[-1] * torch.softmax(ratio / self.temperature, -1)
        weights = torch.where(finished >= 2, balanced, torch.ones_like(losses))
        return weights, DWAState(total, steps, last, before, epoch, finished)
