"""U-Net: an encoder and a decoder with connections between them, for predictions at each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.trunks.pictures import NORMS, block, dropped, summary
from mtl.models.trunks.trunk import Carried, Shape, Stages, Trunk, drop_rate, image


class Upwards(nn.Module):
    """A 2 x 2 up-convolution, joined with what skipped the levels below, and the first convolution on both.

    The up-convolution is made as a 1 x 1 convolution whose channels become pixels, which is the same and quicker where
    many members are trained side by side. One row and column too many, of odd sizes, are cut.
    """

    def __init__(self, before: int, after: int, kind: str) -> None:
        super().__init__()
        self.up = nn.Conv2d(before, 4 * after, 1)
        self.convolution = block(2 * after, after, kind)

    def forward(self, value: Tensor, skipped: Tensor) -> Tensor:
        """The first half of a decoder stage."""
        value = F.pixel_shuffle(self.up(value), 2)[..., : skipped.shape[-2], : skipped.shape[-1]]
        found: Tensor = self.convolution(torch.cat([skipped, value], 1))
        return found


class UNetStages(Stages):
    """Levels down, one at the bottom, and levels up; two convolutions each, the outer part being the second."""

    branches = False

    def __init__(self, before: int, recipe: UNet, size: tuple[int, int]) -> None:
        super().__init__()
        kind, self.depth = recipe.norm, recipe.depth
        widths = [recipe.width * 2**level for level in range(recipe.depth + 1)]
        self.firsts, self.seconds = nn.ModuleList(), nn.ModuleList()
        for after in widths:
            self.firsts.append(block(before, after, kind))
            self.seconds.append(block(after, after, kind))
            before = after
        self.seconds[-1] = nn.Sequential(self.seconds[-1], dropped(recipe.dropout))
        for after in reversed(widths[:-1]):
            self.firsts.append(Upwards(before, after, kind))
            self.seconds.append(block(after, after, kind))
            before = after
        self.count, self.features, self.pixels = len(self.firsts), before, size

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        return inputs, ()

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        if index <= self.depth:
            return self.firsts[index](value), carried
        return self.firsts[index](value, carried[-1]), carried[:-1]

    def outer(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self.seconds[index](value), carried

    def after(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        if index < self.depth:
            return F.max_pool2d(value, 2, ceil_mode=True), (*carried, value)
        return value, carried

    def summary(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        return summary(value)

    def stage(self, index: int) -> list[nn.Module]:
        return [self.firsts[index], self.seconds[index]]

    def tail(self) -> list[nn.Module]:
        return []


@dataclass(frozen=True)
class UNet(Trunk):
    """Convolutions down to small feature maps and up again, with skip connections; for predictions at each pixel.

    Convolutions keep the size of the picture (the paper's shrink it), and any size will do.
    """

    name: ClassVar[str] = "unet"
    paper: ClassVar[str] = "Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015"
    width: int = hyper(32, 1, search=(8, 64), log=True, doc="channels of the first level; each one below has twice")
    depth: int = hyper(3, 1, 6, doc="levels below the first")
    norm: str = hyper("batch", choices=NORMS, doc="normalisation")
    dropout: float = drop_rate("share dropped at the lowest level in training")

    def build(self, shape: Shape) -> tuple[Stages, int]:
        before, height, width = image(self.name, shape)
        if min(height, width) < 2**self.depth:
            raise ValueError(f"unet:depth={self.depth}: inputs are {height} x {width}, halved so often nothing is left")
        stages = UNetStages(before, self, (height, width))
        return stages, stages.features
