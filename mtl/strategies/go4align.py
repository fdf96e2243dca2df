from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mtl.hyperparameters import hyper
from mtl.strategies._objectives import neutral, positive
from mtl.strategies.strategy import Signals, Strategy


class GO4AlignState(NamedTuple):
    """Logarithms of the risk-guided probabilities (K,)."""

    log_weights: Tensor


@dataclass(frozen=True)
class GO4Align(Strategy):
    """Group optimization for task alignment: tasks whose indicators q_k = (sum_j L_j / L_k) p_k lie close together form
    a group and share its mean as their weight; p_k <- p_k exp(-eta L_k), normalised, carries the history of risks (Shen
    et al., NeurIPS 2024).

    The groups are the K-means clustering of the indicators. Deviation: on a line that problem is solved exactly, by
    dynamic programming over the sorted values, where the official code starts Lloyd's iterations at random; the result
    draws no random numbers. A task whose loss is not positive has the mean indicator of the others.
    """

    name: ClassVar[str] = "go4align"
    paper: ClassVar[str] = "Shen et al., GO4Align: Group Optimization for Multi-Task Alignment, NeurIPS 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    groups: int = hyper(2, 1, doc="number of task groups; each task is its own from K on")
    lr: float = hyper(1e-4, 0.0, search=(1e-5, 1e-1), log=True, doc="eta, step size of the probabilities")

    def init(self, losses: Tensor) -> GO4AlignState:
        return GO4AlignState(torch.log_softmax(torch.zeros_like(losses), -1))

    def __call__(self, state: GO4AlignState, signals: Signals) -> tuple[Tensor, GO4AlignState]:
        losses, counts = positive(signals["losses"])
        log_weights = torch.log_softmax(state.log_weights - self.lr * torch.where(counts, losses, 0), -1)
        total = torch.where(counts, losses, 0).sum(-1)
        indicators = neutral(total / losses * log_weights.exp(), counts)
        return _group_means(indicators, self.groups), GO4AlignState(log_weights)


def _group_means(values: Tensor, groups: int) -> Tensor:
    """Each of `values` (K,) replaced by the mean of its group in the optimal K-means clustering."""
    size = values.shape[-1]
    if groups >= size:
        return values
    ordered, order = values.sort(stable=True)
    ends = torch.arange(size + 1, device=values.device)
    centred = (ordered - ordered.mean()).double()
    first, second = pad(centred.cumsum(0), (1, 0)), pad(centred.square().cumsum(0), (1, 0))
    count = ends - ends[:, None]  # of the values from a begin (row) up to an end (column)
    spread = second - second[:, None] - (first - first[:, None]) ** 2 / count.clamp(min=1)
    spread = torch.where(count > 0, spread, torch.inf)
    cost, begins = spread[0], []  # cost[e]: the best clustering of the first e values
    for _ in range(groups - 1):
        best = (cost[:, None] + spread).min(0)
        cost = best.values
        begins.append(best.indices)
    end, result = torch.full_like(order[:1], size), torch.zeros_like(ordered)
    for starts in (*reversed(begins), torch.zeros_like(ends)):
        begin = starts.gather(0, end)
        inside = (ends[:-1] >= begin) & (ends[:-1] < end)
        result = torch.where(inside, (ordered * inside).sum() / inside.sum().clamp(min=1), result)
        end = begin
    return torch.zeros_like(result).scatter(0, order, result)
