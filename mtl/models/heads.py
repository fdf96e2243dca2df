"""Heads: what makes a task's prediction from the features of a trunk."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.models.trunks import Stages


class PixelHead(nn.Module):
    """A 1 x 1 convolution, and bilinear interpolation to the size of the inputs where the features are smaller.

    Its outputs are the last axis, as losses and metrics have classes and directions.

    Args:
        features: channels of the feature maps (B, features, H', W').
        outputs: numbers at each pixel of the prediction (B, H, W, outputs).
        size: height and width of the prediction.
    """

    def __init__(self, features: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(features, outputs, 1)
        self.size = size

    def forward(self, features: Tensor) -> Tensor:
        """The prediction at each pixel."""
        prediction: Tensor = self.convolution(features)
        if prediction.shape[-2:] != self.size:
            prediction = F.interpolate(prediction, self.size, mode="bilinear", align_corners=False)
        return prediction.movedim(1, -1)


def make_head(trunk: Stages, outputs: int) -> nn.Module:
    """A linear head on vectors, a head for each pixel on feature maps."""
    if trunk.pixels is None:
        return nn.Linear(trunk.features, outputs)
    return PixelHead(trunk.features, outputs, trunk.pixels)


@torch.no_grad()
def begin_at(head: nn.Module, value: float) -> None:
    """Add a number to the bias of a head of `make_head`, so that what it says at first is about that number."""
    last = head.convolution if isinstance(head, PixelHead) else head
    assert isinstance(last, nn.Linear | nn.Conv2d) and last.bias is not None
    last.bias += value
