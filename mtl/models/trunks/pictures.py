"""What trunks of pictures have in common: normalisation, blocks, and a summary for gates."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

NORMS = ("batch", "group", "none")
_GROUPS, _FEWEST = 32, 4  # most groups of group normalisation (Wu & He 2018), and the channels that each has at least
_GATE_SIDE = 16  # pixels a side that a gate reads at most: its weights grow with them


def norm(kind: str, channels: int) -> nn.Module:
    """Batch normalisation, group normalisation, or none."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    groups = math.gcd(_GROUPS, max(1, channels // _FEWEST))
    return nn.GroupNorm(groups, channels) if kind == "group" else nn.Identity()


def block(before: int, after: int, kind: str) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the size, normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=kind == "none"), norm(kind, after), nn.ReLU())


def dropped(rate: float) -> nn.Module:
    """Dropout, where there is any."""
    return nn.Dropout(rate) if rate > 0 else nn.Identity()


def summary(value: Tensor) -> Tensor:
    """Pictures (B, channels, H, W) as vectors (B, size); large ones are averaged to 16 pixels a side before."""
    height, width = value.shape[-2:]
    if max(height, width) > _GATE_SIDE:
        value = F.adaptive_avg_pool2d(value, (min(height, _GATE_SIDE), min(width, _GATE_SIDE)))
    return value.flatten(1)
