from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import FLOOR, neutral, on_simplex, per_task, positive, shares
from mtl.strategies.strategy import Signals, Strategy


class STCHState(NamedTuple):
    """Losses of the epoch that sets the nadir summed (K,), and the number of steps in the sum."""

    total: Tensor
    steps: Tensor


@dataclass(frozen=True)
class STCH(Strategy):
    """Smooth Tchebycheff scalarization: descends on a smooth maximum of the losses (Lin et al., ICML 2024).

    The `form` mtl is that of the paper's multi-task experiments, K mu log sum_k exp(l_k f_k / mu) with f_k = log(L_k /
    nadir_k); l = K times the preference, so 1 without one. During the first `warmup` epochs and the next one the update
    descends on sum_k log L_k, and the nadir is the mean loss over that last epoch, as in the official code. The weights
    are K l_k softmax(l f / mu)_k / L_k. A task whose loss is not positive has the mean weight of the others, and
    the ratio to a nadir of zero is 1. Deviation: when no step falls into the nadir's epoch, the first one after it
    serves.

    The form plain is the definition itself, mu log sum_k exp(p_k (L_k - z_k) / mu) with the preference p on the simplex
    and the ideal point z. The weights are p_k softmax(p (L - z) / mu)_k; as mu falls, the losses end where all p_k (L_k
    - z_k) are equal. It has neither warmup nor nadir.
    """

    name: ClassVar[str] = "stch"
    paper: ClassVar[str] = "Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, ICML 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "epoch"})

    mu: float = hyper(1.0, 1e-3, search=(0.05, 5.0), log=True, doc="smoothing; towards the worst task as it falls")
    warmup: int = hyper(4, 0, doc="epochs before the one that sets the nadir")
    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="importance of each task; equal when empty")
    form: str = hyper("mtl", choices=("mtl", "plain"), doc="log losses over the nadir, or losses over the ideal point")
    ideal: tuple[float, ...] = hyper(
        (0.0,), tasks="each", doc="z of the plain form, lowest loss of each task; one number serves all tasks"
    )

    @property
    def domain(self) -> str:  # type: ignore[override]
        return "positive" if self.form == "mtl" else "any"

    def needs_at(self, step: int) -> frozenset[str]:  # noqa: ARG002
        return self.needs if self.form == "mtl" else frozenset({"losses"})

    def init(self, losses: Tensor) -> STCHState:
        return STCHState(torch.zeros_like(losses), losses.new_zeros(()))

    def __call__(self, state: STCHState, signals: Signals) -> tuple[Tensor, STCHState]:
        if self.form == "plain":
            preference = on_simplex(self.preference, signals["losses"])
            distance = preference * (signals["losses"] - per_task(self.ideal, signals["losses"]))
            return preference * torch.softmax(distance / self.mu, -1), state
        (losses, counts), epoch = positive(signals["losses"]), signals["epoch"]
        ready = (epoch > self.warmup) & (state.steps > 0)
        nadir = state.total / state.steps.clamp(min=1)
        known = nadir > FLOOR
        height = torch.where(known, losses / torch.where(known, nadir, 1), 1).log()
        importance = losses.shape[-1] * on_simplex(self.preference, losses)
        share = shares(importance * height / self.mu, counts)
        scale = torch.where(ready, losses.shape[-1] * importance * share, 1)
        counted = (epoch >= self.warmup) & ~ready
        fresh = signals["losses"].clamp(min=0)
        total, steps = torch.where(counted, state.total + fresh, state.total), state.steps + counted
        return neutral(scale / losses, counts), STCHState(total, steps)
