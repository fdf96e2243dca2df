"""Stochastic depth: residual blocks are left out at random in training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mtl.population.dropout import Rate

#: The kind of these rates of dropout, and the name of the setting.
DEPTH = "stochastic_depth"


class StochasticDepth(nn.Module):
    """Leaves out what a residual block adds, in training, for each example by itself.

    Of L blocks, block l is left out with l/L times the probability of the last one: the linear decay rule of Huang et
    al., Deep Networks with Stochastic Depth, ECCV 2016. The paper leaves a block out for a whole batch, and in
    evaluation multiplies what it adds by the probability of its being there; here what stays is divided by that in
    training, so that evaluation is that of the whole network.

    Args:
        rate: of the last block.
        share: l/L.
    """

    def __init__(self, rate: float, share: float) -> None:
        super().__init__()
        self.rate = Rate(rate * share, DEPTH, share)

    def forward(self, value: Tensor) -> Tensor:
        """From what a block adds (B, ...) to what is added."""
        if not (self.training and self.rate > 0):
            return value
        there = value.new_ones(value.shape[0], *[1] * (value.ndim - 1))
        found: Tensor = value * F.dropout(there, self.rate, self.training)
        return found

    def extra_repr(self) -> str:
        return f"rate={float(self.rate):g}"
