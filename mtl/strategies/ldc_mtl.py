from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, positive
from mtl.strategies.learned import OPTIMIZERS, Moments, descend, moments
from mtl.strategies.strategy import Signals, Strategy


class LDCMTLState(NamedTuple):
    """The router's logits (K,), their optimizer's moments, and the first batch's losses (K,; NaN until seen)."""

    logits: Tensor
    moments: Moments
    initial: Tensor


@dataclass(frozen=True)
class LDCMTL(Strategy):
    """Loss discrepancy control: model and router descend together on sum_k s_k l_k + lambda sum_k |s_k l_k - s_(k+1)
    l_(k+1)|, s = softmax of the router's logits (Xiao et al., arXiv:2502.08585, 2025).

    The l_k are normalised losses: L_k / tau_k with tau_k = L_k(0) / min_j L_j(0), or log(L_k / L_k(0)), both from the
    paper. The weights are the objective's gradient by the losses; they may be negative, and they depend on the order of
    the tasks, as only neighbours are compared. The router's gradient is in closed form, so a step of `optimizer` here
    equals one over the model and the logits together. Deviations: the official router is a layer on the model's
    features and clamps its output to [0.2, 0.8] in one benchmark; here it is a free vector of logits. L_k(0) is a
    task's first positive loss; until then, and in the form log wherever its loss is not positive, the task has the mean
    weight of the others.
    """

    name: ClassVar[str] = "ldc-mtl"
    paper: ClassVar[str] = "Xiao et al., LDC-MTL: Balancing MTL through Scalable Loss Discrepancy Control, 2025"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    penalty: float = hyper(0.1, 0.0, search=(1e-3, 1.0), log=True, doc="lambda, weight of the discrepancies")
    lr: float = hyper(1e-3, 0.0, search=(1e-4, 1e-1), log=True, doc="step size of the router's logits")
    normalization: str = hyper("rescaled", choices=("rescaled", "log"), doc="how losses are made comparable")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the router's logits")

    def init(self, losses: Tensor) -> LDCMTLState:
        return LDCMTLState(torch.zeros_like(losses), moments(losses), torch.full_like(losses, torch.nan))

    def __call__(self, state: LDCMTLState, signals: Signals) -> tuple[Tensor, LDCMTLState]:
        # In float64: where all normalised losses are level the router's gradient is rounding, and Adam would make a
        # whole step of float32's.
        losses = signals["losses"].double()
        initial = torch.where(state.initial > FLOOR, state.initial.double(), losses)
        first, started = positive(initial)
        if self.normalization == "log":
            now, counts = positive(losses)
            counts = counts & started
            value, slope = torch.where(counts, (now / first).log(), 0), 1 / now
        else:
            counts = started
            slope = torch.where(counts, first, torch.inf).amin() / first
            value = torch.where(counts, losses * slope, 0)
        share = torch.softmax(state.logits.double(), -1)
        scaled = share * value
        steps = scaled.diff()
        # Neighbours level up to rounding, as all are at the first step, have no gap.
        level = steps.abs() <= 16 * torch.finfo(state.logits.dtype).eps * scaled[1:].abs()
        rises = torch.where(level | ~(counts[1:] & counts[:-1]), 0, torch.sign(steps))
        # Derivative of the objective by s_k l_k: 1, and the signs of the two gaps that task k borders on.
        pull = 1 + self.penalty * (pad(rises, (1, 0)) - pad(rises, (0, 1)))
        by_share = pull * value
        gradient = share * (by_share - (share * by_share).sum())
        gradient = gradient.to(state.logits.dtype)
        logits, updated = descend(state.logits, gradient, state.moments, self.lr, optimizer=self.optimizer)
        weights = neutral(pull * share * slope, counts).to(state.initial.dtype)
        return weights, LDCMTLState(logits, updated, initial.to(state.initial.dtype))
