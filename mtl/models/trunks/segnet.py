"""SegNet: an encoder and a decoder that remembers where each maximum came from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.trunks.pictures import NORMS, block, dropped, summary
from mtl.models.trunks.trunk import Carried, Shape, Stages, Trunk, drop_rate, image

_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each level, as in VGG-16
_FACTORS = (1, 2, 4, 8, 8)  # of its channels


class SegNetStages(Stages):
    """Levels down and up; the inner part of a stage is its first convolution, the outer one the rest."""

    branches = False

    def __init__(self, before: int, recipe: SegNet, size: tuple[int, int]) -> None:
        super().__init__()
        self.depth = recipe.depth
        widths = [recipe.width * factor for factor in _FACTORS[: recipe.depth]]
        counts = _CONVOLUTIONS[: recipe.depth]
        down = list(zip([before, *widths], widths, counts, strict=False))
        up = list(zip(reversed(widths), [*reversed(widths[:-1]), widths[0]], reversed(counts), strict=True))
        self.firsts, self.rests = nn.ModuleList(), nn.ModuleList()
        for start, stop, count in down:
            self._add([start, *[stop] * count], recipe.norm)
        for start, stop, count in up:
            self._add([*[start] * count, stop], recipe.norm)
        # After Kendall et al. 2017: the innermost levels drop.
        for index in (recipe.depth - 1, recipe.depth):
            self.rests[index] = nn.Sequential(self.rests[index], dropped(recipe.dropout))
        self._sizes = [size]  # before each pooling
        for _ in range(recipe.depth - 1):
            height, width = self._sizes[-1]
            self._sizes.append((-(-height // 2), -(-width // 2)))
        self.count, self.features, self.pixels = len(self.firsts), widths[0], size

    def _add(self, channels: list[int], kind: str) -> None:
        blocks = [block(start, stop, kind) for start, stop in pairwise(channels)]
        self.firsts.append(blocks[0])
        self.rests.append(nn.Sequential(*blocks[1:]))

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        return inputs, ()

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        if index >= self.depth:
            height, width = self._sizes[2 * self.depth - 1 - index]
            value, carried = unpooled(value, carried[-1], height, width), carried[:-1]
        return self.firsts[index](value), carried

    def outer(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self.rests[index](value), carried

    def after(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        if index < self.depth:
            value, places = F.max_pool2d(value, 2, ceil_mode=True, return_indices=True)
            return value, (*carried, places)
        return value, carried

    def summary(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        return summary(value)

    def stage(self, index: int) -> list[nn.Module]:
        return [self.firsts[index], self.rests[index]]

    def tail(self) -> list[nn.Module]:
        return []


def unpooled(value: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Maxima (B, C, h, w) put back to their places in pictures of `height` x `width`, zero elsewhere."""
    empty = value.new_zeros(*value.shape[:2], height * width)
    filled = empty.scatter(2, places.flatten(2), value.flatten(2))
    return filled.view(*value.shape[:2], height, width)


@dataclass(frozen=True)
class SegNet(Trunk):
    """The convolutions of VGG-16 down and up again, maxima returning to their places; for predictions at each pixel.

    The last convolution of the paper, which makes the classes, is each task's head. Any size of picture will do.
    """

    name: ClassVar[str] = "segnet"
    paper: ClassVar[str] = "Badrinarayanan et al., SegNet: A Deep Convolutional Encoder-Decoder Architecture, PAMI 2017"
    width: int = hyper(64, 1, search=(8, 64), log=True, doc="channels of the first level; then 2, 4, 8 and 8 times")
    depth: int = hyper(5, 1, 5, doc="levels")
    norm: str = hyper("batch", choices=NORMS, doc="normalisation")
    dropout: float = drop_rate("share dropped at the innermost levels in training")

    def build(self, shape: Shape) -> tuple[Stages, int]:
        before, height, width = image(self.name, shape)
        if min(height, width) < 2**self.depth:
            raise ValueError(
                f"segnet:depth={self.depth}: inputs are {height} x {width}, halved so often nothing is left"
            )
        stages = SegNetStages(before, self, (height, width))
        return stages, stages.features
