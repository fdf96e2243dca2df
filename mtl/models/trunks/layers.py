"""A trunk that is a plain sequence of layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from mtl.models.trunks.trunk import Carried, Stages


class Layers(nn.Sequential, Stages):
    """Layers one after another: some of an entry, some a stage, and the rest at the end.

    Args:
        layers: all of them.
        start: how many belong to the entry.
        ends: for each stage, the index behind its last layer.
        features: size of the features.
    """

    def __init__(self, layers: Sequence[nn.Module], start: int, ends: Sequence[int], features: int) -> None:
        super().__init__(*layers)
        self._spans = [slice(*span) for span in pairwise([0, start, *ends, len(layers)])]
        self.count, self.features = len(ends), features

    def __getitem__(self, index: Any) -> Any:
        """A layer, or several as a plain sequence."""
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        return self._through(self._spans[0], inputs), ()

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self._through(self._spans[index + 1], value), carried

    def end(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        return self._through(self._spans[-1], value)

    def entry(self) -> list[nn.Module]:
        return list(self)[self._spans[0]]

    def forget_entry(self) -> None:
        for index in range(*self._spans[0].indices(len(self))):
            self[index] = nn.Identity()

    def stage(self, index: int) -> list[nn.Module]:
        return list(self)[self._spans[index + 1]]

    def tail(self) -> list[nn.Module]:
        return list(self)[self._spans[-1]]

    def forward(self, inputs: Any) -> Tensor:
        """The features."""
        return self._through(slice(None), inputs)

    def _through(self, span: slice, value: Any) -> Tensor:
        for layer in list(self)[span]:
            value = layer(value)
        found: Tensor = value
        return found


def fully_connected(entry: nn.Module, size: int, width: int, depth: int, dropout: float) -> Layers:
    """Linear layers with ReLU, and dropout where there is some, behind what makes vectors of the inputs.

    Args:
        entry: gives (B, size).
        size: what the first layer reads.
        width: units of each layer.
        depth: number of layers, each a stage.
        dropout: share of units dropped in training.
    """
    layers, ends = [entry], []
    for _ in range(depth):
        layers += [nn.Linear(size, width), nn.ReLU()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        size = width
        ends.append(len(layers))
    return Layers(layers, 1, ends, width)
