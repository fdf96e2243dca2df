from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import identity, inverse, rounding
from mtl.strategies.solvers.cone import nonnegative_qp
from mtl.strategies.strategy import Signals, Strategy


class PCDState(NamedTuple):
    """Moving averages of the squared gradient norms (K,), and the number of steps in them."""

    squares: Tensor
    steps: Tensor


@dataclass(frozen=True)
class PCD(Strategy):
    """Priority-constrained descent: the direction nearest to the primary gradient along which every other task gets a
    share tau of its own steepest descent (TMLR 2026).

    On gradients divided by the root of the bias-corrected moving average of their squared norms, d minimises |d -
    g_1|^2 subject to g_k . d >= tau |g_k|^2, and is then given the length of the primary gradient as it is. By duality
    d = g_1 + sum_k m_k g_k, m >= 0. Where the constraints contradict each other, the update is g_1; where d or g_1 is
    zero, so are the weights.
    """

    name: ClassVar[str] = "pcd"
    paper: ClassVar[str] = "Not All Objectives Are Born Equal: Priority-Constrained Descent, TMLR 2026"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    tau: float = hyper(0.02, 0.0, 1.0, search=(1e-3, 0.5), log=True, doc="share of its own descent each task is due")
    beta: float = hyper(0.999, 0.0, 0.9999, search=(0.9, 0.9999), doc="share of the past in the averages")
    eps: float = hyper(1e-8, 0.0, doc="added to the averages")
    primary: int = hyper(0, 0, tasks="index", doc="index of the task with priority")

    def init(self, losses: Tensor) -> PCDState:
        return PCDState(torch.zeros_like(losses), losses.new_zeros(()))

    def __call__(self, state: PCDState, signals: Signals) -> tuple[Tensor, PCDState]:
        dtype = signals["gramian"].dtype
        gramian, steps = signals["gramian"].double(), state.steps + 1
        squares = self.beta * state.squares + (1 - self.beta) * gramian.diagonal().to(state.squares.dtype)
        unbiased = squares.double() / (1 - self.beta ** steps.double())
        divisor = inverse((unbiased + self.eps).sqrt())
        scaled = gramian * divisor[:, None] * divisor
        main = torch.arange(len(divisor), device=divisor.device) == self.primary
        due = self.tau * scaled.diagonal() - scaled[self.primary]
        # The primary task has no constraint: on its own and at a cost, its multiplier is zero.
        others = torch.where(main[:, None] | main, identity(scaled), scaled)
        multipliers = nonnegative_qp(others, torch.where(main, 1, -due))
        multipliers = torch.where(main, 0, multipliers)
        missing = torch.where(main, 0, due - scaled @ multipliers)
        feasible = (missing <= 1e-6 * scaled.diagonal().amax()).all()
        mixture = main + torch.where(feasible, multipliers, 0)
        square, size = mixture @ scaled @ mixture, (mixture @ scaled.diagonal().clamp(min=0).sqrt()) ** 2
        square = torch.where(square > rounding(scaled, dtype) * size, square, 0)
        length = (gramian[self.primary, self.primary] * inverse(square)).sqrt()
        return (mixture * divisor * length).to(dtype), PCDState(squares, steps)
