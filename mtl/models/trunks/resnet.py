"""Residual networks of basic blocks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.trunks.depth import StochasticDepth
from mtl.models.trunks.pictures import NORMS, dropped, norm, summary
from mtl.models.trunks.trunk import Carried, Shape, Stages, Trunk, drop_rate, image

_SMALL = 64  # pictures below so many pixels a side get the stem for small ones


class Block(nn.Module):
    """Two 3 x 3 convolutions, and a way around them (He et al. 2016, figure 2)."""

    def __init__(self, before: int, after: int, stride: int, kind: str, left_out: StochasticDepth) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=kind == "none")
        self.first_norm = norm(kind, after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=kind == "none")
        self.second_norm = norm(kind, after)
        same = stride == 1 and before == after
        around = nn.Conv2d(before, after, 1, stride, bias=kind == "none")
        self.around = nn.Identity() if same else nn.Sequential(around, norm(kind, after))
        self.relu = nn.ReLU()
        self.left_out = left_out

    def forward(self, value: Tensor) -> Tensor:
        """The block's output."""
        inside = self.second_norm(self.second(self.relu(self.first_norm(self.first(value)))))
        found: Tensor = self.relu(self.left_out(inside) + self.around(value))
        return found


class Residual(Stages):
    """A stem and four stages of basic blocks; the outer part of a stage is its last block."""

    def __init__(self, before: int, recipe: ResNet18, size: tuple[int, int]) -> None:
        super().__init__()
        width, kind = recipe.width, recipe.norm
        small = recipe.stem == "small" or (recipe.stem == "auto" and max(size) < _SMALL)
        sides = (3, 1, 1) if small else (7, 2, 3)
        stem: list[nn.Module] = [
            nn.Conv2d(before, width, *sides, bias=kind == "none"),
            norm(kind, width),
            nn.ReLU(),
        ]
        if not small:
            stem.append(nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList([nn.ModuleList([nn.Sequential(*stem), nn.Identity()])])
        before, numbers, every = width, itertools.count(1), sum(recipe.blocks)
        for number, count in enumerate(recipe.blocks):
            after = width * 2**number
            blocks = [
                Block(
                    before if k == 0 else after,
                    after,
                    2 if k == 0 and number else 1,
                    kind,
                    StochasticDepth(recipe.stochastic_depth, next(numbers) / every),
                )
                for k in range(count)
            ]
            self.stages.append(nn.ModuleList([nn.Sequential(*blocks[:-1]), blocks[-1]]))
            before = after
        self.dropout = dropped(recipe.dropout)
        self.count, self.features = len(self.stages), before
        self.pixels = size if recipe.maps else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        return inputs, ()

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self.stages[index][0](value), carried  # type: ignore[index]

    def outer(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self.stages[index][1](value), carried  # type: ignore[index]

    def end(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        found: Tensor = self.dropout(value if self.pixels else value.mean((2, 3)))
        return found

    def summary(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        return summary(value)

    def stage(self, index: int) -> list[nn.Module]:
        return [self.stages[index]]

    def tail(self) -> list[nn.Module]:
        return [self.dropout]


@dataclass(frozen=True)
class ResNet18(Trunk):
    """A residual network of 18 layers; features are averaged over the picture, or maps for predictions at each pixel.

    The stem for large pictures is the paper's (7 x 7 with stride 2, then pooling), for small ones a 3 x 3 convolution.
    """

    name: ClassVar[str] = "resnet18"
    paper: ClassVar[str] = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"
    blocks: ClassVar[tuple[int, ...]] = (2, 2, 2, 2)
    width: int = hyper(64, 4, search=(16, 128), log=True, doc="channels of the first stage; each next one has twice")
    norm: str = hyper("batch", choices=NORMS, doc="normalisation")
    stem: str = hyper("auto", choices=("auto", "large", "small"), doc="small below 64 pixels a side when auto")
    maps: bool = hyper(False, doc="feature maps, for predictions at each pixel")
    dropout: float = drop_rate("share of the features dropped in training")
    stochastic_depth: float = drop_rate("how often the last block is left out in training, earlier ones less")

    def build(self, shape: Shape) -> tuple[Stages, int]:
        before, height, width = image(self.name, shape)
        stages = Residual(before, self, (height, width))
        return stages, stages.features


@dataclass(frozen=True)
class ResNet34(ResNet18):
    """A residual network of 34 layers; otherwise as resnet18."""

    name: ClassVar[str] = "resnet34"
    blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
