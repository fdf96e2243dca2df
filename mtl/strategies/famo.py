from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import neutral
from mtl.strategies.learned import Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy

_EPS = 1e-8


class FAMOState(NamedTuple):
    """Logits xi (K,), their Adam moments, and the previous step's losses (K,; NaN before the first)."""

    logits: Tensor
    moments: Moments
    losses: Tensor


@dataclass(frozen=True)
class FAMO(Strategy):
    """Fast adaptive multitask optimization: equal relative improvement of all tasks (Liu et al., NeurIPS 2023, alg. 1).

    With z = softmax(xi) and D = L - floor, the weights are w_k = c z_k / D_k, c = (sum_k z_k / D_k)^-1. After the
    model's step on the same batch, xi descends with Adam on the change of log D, times the Jacobian of the softmax,
    with decay gamma. Here that descent happens at the start of the next step, from the losses `after`; the weights are
    those of the official code. Deviation: where D is not positive, where the official code lets log D turn
    NaN, a task has the mean weight of the others, and its logit does not move.
    """

    name: ClassVar[str] = "famo"
    paper: ClassVar[str] = "Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "after"})
    domain: ClassVar[str] = "positive"

    lr: float = hyper(0.025, 0.0, search=(1e-3, 1e-1), log=True, doc="Adam's step size for the logits")
    gamma: float = hyper(1e-3, 0.0, search=(1e-4, 1e-2), log=True, doc="weight decay of the logits")
    floor: tuple[float, ...] = hyper(
        (0.0,), tasks="each", doc="lowest loss that each task can reach; one number serves all tasks"
    )

    def init(self, losses: Tensor) -> FAMOState:
        return FAMOState(torch.zeros_like(losses), moments(losses), torch.full_like(losses, torch.nan))

    def __call__(self, state: FAMOState, signals: Signals) -> tuple[Tensor, FAMOState]:
        losses = signals["losses"]
        floor = torch.as_tensor(self.floor, dtype=losses.dtype, device=losses.device)

        def excess(of: Tensor) -> Tensor:
            # In float64: from one step to the next a logarithm changes in its last digits.
            return (of.double() - floor + _EPS).clamp(min=_EPS)

        seen = ~state.losses.isnan().any()
        known = (state.losses > floor) & (signals["after"] > floor)
        change = torch.where(known, excess(state.losses).log() - excess(signals["after"]).log(), 0)
        share = torch.softmax(state.logits.double(), -1)
        gradient = (share * (change - (share * change).sum())).to(losses.dtype)
        logits, updated = descend(state.logits, gradient, state.moments, self.lr, weight_decay=self.gamma)
        logits = torch.where(seen, logits, state.logits)
        updated = Moments(*(torch.where(seen, new, old) for new, old in zip(updated, state.moments, strict=True)))

        counts = losses > floor
        counts = counts | ~counts.any(-1, keepdim=True)
        pull = neutral(torch.softmax(logits, -1) / excess(losses), counts)
        return (pull / pull.sum()).to(losses.dtype), FAMOState(logits, updated, losses)
