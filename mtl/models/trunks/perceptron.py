"""Fully connected layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl.hyperparameters import hyper
from mtl.models.trunks.layers import Layers, fully_connected
from mtl.models.trunks.trunk import Shape, Trunk, drop_rate


@dataclass(frozen=True)
class MLP(Trunk):
    """Fully connected layers with ReLU and dropout on the flattened input; several tensors of numbers are joined."""

    name: ClassVar[str] = "mlp"
    width: int = hyper(128, 1, search=(32, 512), log=True, doc="units of each layer")
    depth: int = hyper(2, 1, 16, doc="number of layers")
    dropout: float = drop_rate("share of units dropped in training")

    def build(self, shape: Shape) -> tuple[Layers, int]:
        entry = nn.Flatten() if _is_one(shape) else Joined()
        return fully_connected(entry, _numbers(shape), self.width, self.depth, self.dropout), self.width


class Joined(nn.Module):
    """Floating-point tensors (B, ...) in any nesting as one matrix (B, size)."""

    def forward(self, inputs: Any) -> Tensor:
        leaves = pytree.tree_leaves(inputs)
        if whole := [leaf.dtype for leaf in leaves if not leaf.is_floating_point()]:
            raise ValueError(f"mlp: inputs hold a tensor of {whole[0]}; numbers with a floating point are wanted")
        return torch.cat([leaf.flatten(1) for leaf in leaves], 1)


def _is_one(shape: Any) -> bool:
    return not isinstance(shape, Mapping) and all(isinstance(length, int) for length in shape)


def _numbers(shape: Any) -> int:
    """How many numbers an example holds."""
    if isinstance(shape, Mapping):
        return sum(map(_numbers, shape.values()))
    if isinstance(shape, Sequence) and not _is_one(shape):
        return sum(map(_numbers, shape))
    size = 1
    for length in shape:
        size *= length
    return size
