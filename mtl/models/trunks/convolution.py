"""Small networks for small pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.trunks.layers import Layers
from mtl.models.trunks.pictures import summary
from mtl.models.trunks.trunk import Carried, Shape, Trunk, drop_rate, image


class Pictures(Layers):
    """Layers whose stages give pictures (B, channels, H, W)."""

    def summary(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        return summary(value)


@dataclass(frozen=True)
class Conv(Trunk):
    """Two convolutions with pooling and a linear layer, after LeNet (LeCun et al. 1998), on (channels, H, W) inputs."""

    name: ClassVar[str] = "conv"
    paper: ClassVar[str] = "after LeCun et al., Proceedings of the IEEE 1998"
    channels: int = hyper(16, 1, search=(8, 64), log=True, doc="channels of the first layer; the second has twice")
    width: int = hyper(64, 1, search=(32, 512), log=True, doc="units of the linear layer")
    batch_norm: bool = hyper(False, doc="batch normalisation after each convolution")
    dropout: float = drop_rate("share of the linear layer's units dropped")

    def build(self, shape: Shape) -> tuple[Layers, int]:
        before, height, width = image(self.name, shape, 4)
        layers: list[nn.Module] = []
        ends = []
        for after in (self.channels, 2 * self.channels):
            layers.append(nn.Conv2d(before, after, 3, padding=1))
            if self.batch_norm:
                layers.append(nn.BatchNorm2d(after))
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            before, height, width = after, height // 2, width // 2
            ends.append(len(layers))
        layers += [nn.Flatten(), nn.Linear(before * height * width, self.width), nn.ReLU()]
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return Pictures(layers, 0, ends, self.width), self.width


@dataclass(frozen=True)
class LeNet(Trunk):
    """Two 5 x 5 convolutions with pooling and a linear layer: LeNet with ReLU, as on MultiMNIST (Sener & Koltun 2018).

    Pictures are (channels, H, W) of 16 pixels a side or more; 28 or 36 are usual. The defaults are those of the
    multi-task literature.
    """

    name: ClassVar[str] = "lenet"
    paper: ClassVar[str] = "LeCun et al., Proceedings of the IEEE 1998; Sener & Koltun, NeurIPS 2018"
    channels: int = hyper(10, 1, search=(5, 40), log=True, doc="channels of the first layer; the second has twice")
    width: int = hyper(50, 1, search=(32, 512), log=True, doc="units of the linear layer")
    dropout: float = drop_rate("share of the linear layer's units dropped")

    def build(self, shape: Shape) -> tuple[Layers, int]:
        before, height, width = image(self.name, shape, 16)
        layers: list[nn.Module] = []
        ends = []
        for after in (self.channels, 2 * self.channels):
            layers += [nn.Conv2d(before, after, 5), nn.MaxPool2d(2), nn.ReLU()]
            before, height, width = after, (height - 4) // 2, (width - 4) // 2
            ends.append(len(layers))
        layers += [nn.Flatten(), nn.Linear(before * height * width, self.width), nn.ReLU()]
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return Pictures(layers, 0, ends, self.width), self.width
