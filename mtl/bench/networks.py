"""Trunks larger than those of `mtl.models`, for timing on a GPU."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class ResNet18(nn.Sequential):
    """ResNet-18 (He et al., CVPR 2016) with the first layer for pictures of 32 x 32."""

    width: ClassVar[int] = 512

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        before = 64
        for after in (64, 128, 256, 512):
            layers += [_Block(before, after, stride=1 if after == 64 else 2), _Block(after, after, stride=1)]
            before = after
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.skip: nn.Module = nn.Identity()
        if before != after:
            self.skip = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.relu(self.residual(inputs) + self.skip(inputs))


class TextEncoder(nn.Module):
    """Four transformer layers (Vaswani et al., NeurIPS 2017) on embedded tokens, averaged over the sequence."""

    width: ClassVar[int] = 256

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(self.width, 4, 4 * self.width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)

    def forward(self, inputs: Tensor) -> Tensor:
        encoded: Tensor = self.layers(inputs)
        return encoded.mean(1)
