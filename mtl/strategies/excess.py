from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse
from mtl.strategies.strategy import Signals, SizedStrategy

_EPS = 1e-7
_LARGEST = 1e12  # keeps logits finite where an excess risk has grown from next to nothing


class ExcessState(NamedTuple):
    """Log weights (K,), sums of squared gradients (K, D), sum of the first excess risks (K,), and number of steps."""

    log_weights: Tensor
    squares: Tensor
    baseline: Tensor
    step: Tensor


@dataclass(frozen=True)
class ExcessMTL(SizedStrategy):
    """Weights grow with each task's distance to its own optimum (He et al., ICML 2024, eqs. 6-9, algorithm 1).

    The excess risk, a second-order Taylor estimate with AdaGrad's diagonal in place of the Hessian, is
    E_k = g_k^T diag(sum_t g_k^2 + 1e-7)^(-1/2) g_k. Divided by its value at the start it updates the weights on the
    simplex, w_k <- w_k exp(lr E_k / E_k(0)). E_k(0) is the mean over the first `warmup` steps, in which the weights
    stay uniform: the paper takes three epochs (appendix C.1), the official code one step, with weights of sum K.
    Deviation: a task whose gradient was zero throughout the warm-up gains no weight.
    """

    name: ClassVar[str] = "excess"
    paper: ClassVar[str] = "He et al., Robust Multi-Task Learning with Excess Risks, ICML 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "jacobian"})

    lr: float = hyper(1e-2, 0.0, search=(1e-4, 1.0), log=True, doc="step size of the weights")
    warmup: int = hyper(1, 1, doc="steps over which the initial excess risks are averaged")

    def init_sized(self, losses: Tensor, dimension: int) -> ExcessState:
        uniform = torch.log_softmax(torch.zeros_like(losses), -1)
        squares = losses.new_zeros(len(losses), dimension)
        return ExcessState(uniform, squares, torch.zeros_like(losses), losses.new_zeros((), dtype=torch.int64))

    def __call__(self, state: ExcessState, signals: Signals) -> tuple[Tensor, ExcessState]:
        square = signals["jacobian"].to(state.squares.dtype) ** 2
        squares = state.squares + square
        excess = (square / (squares + _EPS).sqrt()).sum(-1)
        warm = state.step < self.warmup
        baseline = state.baseline + torch.where(warm, excess, 0)
        relative = (excess * inverse(baseline / self.warmup)).clamp(max=_LARGEST)
        updated = torch.log_softmax(state.log_weights + self.lr * relative, -1)
        log_weights = torch.where(warm, state.log_weights, updated)
        return log_weights.exp(), ExcessState(log_weights, squares, baseline, state.step + 1)
