"""Fully connected layers on a table with columns of words and columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.trunks.layers import Layers, fully_connected
from mtl.models.trunks.trunk import Shape, Trunk, drop_rate, shown


@dataclass(frozen=True)
class Table(Trunk):
    """Embedded words beside numbers, then layers with ReLU and dropout: a dict of `codes` (C,) and `numbers` (F,).

    The words of all columns share one table of embeddings, so each word of each column has a code of its own, from 0 to
    `codes` - 1; `numbers` may be left out.
    """

    name: ClassVar[str] = "table"
    codes: int = hyper(1000, 1, doc="how many codes there are, over all columns")
    embedding: int = hyper(8, 1, search=(4, 32), log=True, doc="numbers that stand for a word")
    width: int = hyper(128, 1, search=(32, 512), log=True, doc="units of each layer")
    depth: int = hyper(2, 1, 16, doc="number of layers")
    dropout: float = drop_rate("share of units dropped in training")

    def build(self, shape: Shape) -> tuple[Layers, int]:
        if not isinstance(shape, Mapping) or "codes" not in shape or shape.keys() - {"codes", "numbers"}:
            raise ValueError(f"table: inputs have shape {shown(shape)}; a dict of `codes` and `numbers` is wanted")
        if any(len(part) != 1 for part in shape.values()):
            raise ValueError(f"table: inputs have shape {shown(shape)}; one axis of columns is wanted for each")
        size = shape["codes"][0] * self.embedding + shape.get("numbers", (0,))[0]
        entry = Embedded(self.codes, self.embedding)
        return fully_connected(entry, size, self.width, self.depth, self.dropout), self.width


class Embedded(nn.Module):
    """Codes (B, C) and numbers (B, F) as one matrix (B, C x size + F)."""

    def __init__(self, codes: int, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(codes, size)
        nn.init.normal_(self.table.weight, std=size**-0.5)

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        """What the layers read."""
        words: Tensor = self.table(inputs["codes"]).flatten(1)
        return torch.cat([words, inputs["numbers"]], 1) if "numbers" in inputs else words
