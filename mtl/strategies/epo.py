from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse
from mtl.strategies._linear_program import simplex_lp
from mtl.strategies._objectives import FLOOR, on_simplex, positive
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class EPO(Strategy):
    """Exact Pareto optimal search: towards losses with all r_k L_k equal, then down (Mahapatra & Rajan, ICML 2020,
    algorithm 1).

    With q = r L / sum(r L), the non-uniformity mu = sum q log(K q) and the anchor a = r (log(K q) - mu), the weights on
    the simplex maximise a . G w where mu > tolerance, subject to (G w)_k >= (G a)_k for the tasks where that is not
    positive (>= 0 if it is so for all) and >= 0 for the task with the largest r L; else they maximise the sum of G w,
    the descent of all tasks, subject to G w >= 0 and a . G w >= min(0, max G a). The linear programs are solved by an
    interior-point method up to 1e-7; G is divided by its trace first. A task whose loss is not positive takes no part.
    """

    name: ClassVar[str] = "epo"
    paper: ClassVar[str] = "Mahapatra & Rajan, Multi-Task Learning with User Preferences, ICML 2020"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})
    domain: ClassVar[str] = "positive"

    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="r, importance of each task; equal when empty")
    tolerance: float = hyper(1e-4, 0.0, doc="non-uniformity below which the update descends")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        (losses, counts), gramian = positive(signals["losses"].double()), signals["gramian"].double()
        number = counts.sum()
        importance = torch.where(counts, on_simplex(self.preference, losses), 0)
        importance = number * importance * inverse(importance.sum())
        weighted = importance * losses
        share = weighted * inverse(weighted.sum())
        log_share = (share * number).clamp(min=FLOOR).log()
        uneven = (share * log_share).sum()
        anchor = importance * (log_share - uneven)
        trace = gramian.diagonal().sum()
        gramian = gramian / torch.where(trace > 0, trace, 1)
        pull = gramian @ anchor
        scale = pull.abs().amax()
        steered = torch.where(counts, pull / torch.where(scale > 0, scale, 1), -1)
        # While balancing, tasks that the anchor's direction lowers are free: their rows ask for nothing.
        raised, worst = pull <= 0, weighted == weighted.amax()
        least = torch.where(worst | raised.all(), 0, pull)
        held = raised | worst
        balance = simplex_lp(steered, gramian * held[:, None], least * held)
        lower = torch.cat([0 * pull, pull.amax(0, keepdim=True).clamp(max=0)])
        descend = simplex_lp(torch.where(counts, gramian.sum(0), -1), torch.cat([gramian, pull[None]]), lower)
        return torch.where(uneven > self.tolerance, balance, descend).to(signals["gramian"].dtype), state
