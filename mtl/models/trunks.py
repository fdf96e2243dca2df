"""Trunks by name, with their sizes as hyperparameters: `mlp:width=128,depth=3`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from torch import nn

from mtl.hyperparameters import hyper, read_unit, validate, write_unit


@dataclass(frozen=True)
class Trunk(ABC):
    """A recipe for a trunk, built when the shape of the inputs is known."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        validate(self, self.name)

    @abstractmethod
    def build(self, shape: Sequence[int]) -> tuple[nn.Module, int]:
        """The trunk for inputs of `shape` (without the batch axis), and the number of features it gives."""

    def __str__(self) -> str:
        return write_unit(self, self.name)


@dataclass(frozen=True)
class MLP(Trunk):
    """Fully connected layers with ReLU and dropout on the flattened input."""

    name: ClassVar[str] = "mlp"
    width: int = hyper(128, 1, search=(32, 512), log=True, doc="units of each layer")
    depth: int = hyper(2, 1, 16, doc="number of layers")
    dropout: float = hyper(0.0, 0.0, 0.95, search=(0.0, 0.5), doc="share of units dropped in training")

    def build(self, shape: Sequence[int]) -> tuple[nn.Module, int]:
        size = 1
        for length in shape:
            size *= length
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(self.depth):
            layers += [nn.Linear(size, self.width), nn.ReLU()]
            if self.dropout > 0:
                layers.append(nn.Dropout(self.dropout))
            size = self.width
        return nn.Sequential(*layers), size


@dataclass(frozen=True)
class Conv(Trunk):
    """Two convolutions with pooling and a linear layer, after LeNet (LeCun et al. 1998), on (channels, H, W) inputs."""

    name: ClassVar[str] = "conv"
    channels: int = hyper(16, 1, search=(8, 64), log=True, doc="channels of the first layer; the second has twice")
    width: int = hyper(64, 1, search=(32, 512), log=True, doc="units of the linear layer")
    batch_norm: bool = hyper(False, doc="batch normalisation after each convolution")

    def build(self, shape: Sequence[int]) -> tuple[nn.Module, int]:
        if len(shape) != 3 or min(shape[1:]) < 4:
            raise ValueError(
                f"conv: inputs have shape {tuple(shape)}; (channels, height, width) of 4 x 4 or more is wanted"
            )
        layers: list[nn.Module] = []
        before, height, width = shape
        for after in (self.channels, 2 * self.channels):
            layers.append(nn.Conv2d(before, after, 3, padding=1))
            if self.batch_norm:
                layers.append(nn.BatchNorm2d(after))
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            before, height, width = after, height // 2, width // 2
        layers += [nn.Flatten(), nn.Linear(before * height * width, self.width), nn.ReLU()]
        return nn.Sequential(*layers), self.width


MODELS: Mapping[str, type[Trunk]] = MappingProxyType({cls.name: cls for cls in (Conv, MLP)})


def make_trunk(spec: str) -> Trunk:
    """The trunk that a spec such as `mlp:width=64` names; a `ValueError` says what is wrong with it."""
    cls, values = read_unit(spec, MODELS, "model")
    return cls(**values)
