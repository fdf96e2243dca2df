"""DSelect-k: gates that come to choose at most k experts."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.architectures.architecture import Architecture
from mtl.models.architectures.copies import copies
from mtl.models.architectures.experts import Gate, GatedExperts
from mtl.models.trunks import Trunk

_WEIGHTS = 0.05  # what weights of selectors begin within


class SelectingGate(Gate):
    """The mean of k selectors with weights; each selector writes an expert's number in smoothed bits.

    Args:
        size: of what it reads.
        experts: a power of two.
        selectors: k.
        gamma: width of the step from 0 to 1.
        static: whether it chooses the same for all examples, whatever it reads.
    """

    codes: Tensor

    def __init__(self, size: int, experts: int, selectors: int, gamma: float, *, static: bool = False) -> None:
        super().__init__()
        made = SameForAll if static else nn.Linear
        self.bits = made(size, selectors * int(math.log2(experts)))
        self.weights = made(size, selectors)
        self.gamma, self.selectors = gamma, selectors
        # Away from the flat parts of the step, where there is no gradient; as in the authors' code.
        for parameter in self.bits.parameters():
            nn.init.uniform_(parameter, -gamma / 100, gamma / 100)
        for parameter in self.weights.parameters():
            nn.init.uniform_(parameter, -_WEIGHTS, _WEIGHTS)
        digits = torch.arange(int(math.log2(experts)))
        codes = (torch.arange(experts)[:, None] >> digits) & 1
        self.register_buffer("codes", codes.bool(), persistent=False)

    def forward(self, summary: Tensor) -> Tensor:
        steps = smooth_step(self.bits(summary), self.gamma).unflatten(-1, (self.selectors, 1, -1))
        chosen = torch.where(self.codes, steps, 1 - steps).prod(-1)  # (B, selectors, experts)
        mean: Tensor = (self.weights(summary).softmax(-1)[:, None] @ chosen)[:, 0]
        return mean


class SameForAll(nn.Module):
    """The same numbers (count,) for all examples, of which nothing is read."""

    def __init__(self, _size: int, count: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(count))

    def forward(self, summary: Tensor) -> Tensor:
        return self.bias.expand(summary.shape[0], -1)


def smooth_step(value: Tensor, gamma: float) -> Tensor:
    """0 below -gamma / 2, 1 above gamma / 2, and a cubic between (equation 4 of the paper)."""
    inside = value.clamp(-gamma / 2, gamma / 2)
    return -2 / gamma**3 * inside**3 + 3 / (2 * gamma) * inside + 0.5


@dataclass(frozen=True)
class DSelectK(Architecture):
    """A mixture of experts whose gates come to choose at most k of them: numbers of experts in bits, smoothed.

    A gate reads the inputs of each example or, with `gate=static`, is the same for all: the paper's two forms. Gates
    begin as in the authors' code. Left out are the two terms that may be added to the loss, as a model gives
    predictions and no loss: the entropy of selectors, to have bits decided earlier, and what keeps selectors from
    numbers without an expert, so that the number of experts must be a power of two.
    """

    name: ClassVar[str] = "dselect-k"
    paper: ClassVar[str] = "Hazimeh et al., DSelect-k: Differentiable Selection in the Mixture of Experts, NeurIPS 2021"
    shared: ClassVar[str] = "the experts; a gate is its task's own"
    experts: int = hyper(4, 2, doc="copies of the trunk, a power of two")
    k: int = hyper(2, 1, search=(1, 4), doc="experts that a task's gate comes to choose at most")
    gate: str = hyper("example", choices=("example", "static"), doc="what a gate chooses by: the example, or nothing")
    gamma: float = hyper(1.0, 1e-3, search=(0.1, 10.0), log=True, doc="width of the smooth step; small decides early")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts & (self.experts - 1):
            raise ValueError(f"dselect-k: experts={self.experts} must be a power of two, such as 4 or 8")

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> GatedExperts:
        gate = functools.partial(SelectingGate, selectors=self.k, gamma=self.gamma, static=self.gate == "static")
        return GatedExperts(copies(trunk, inputs, self.experts), {}, outputs, gate, inputs)
