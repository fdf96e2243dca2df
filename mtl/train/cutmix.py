"""Cutmix: a box of each picture is that of another one, and so are the labels of the box's pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Split
from mtl.benchmarks.tree import mapped_together
from mtl.train.moving import first_picture, is_picture, pixel_axis


class Box(NamedTuple):
    """A box of pictures, whose pixels are those of rows `top` to `bottom` and columns `left` to `right`, without the
    last ones."""

    top: int
    bottom: int
    left: int
    right: int

    def share(self, height: int, width: int) -> float:
        """What it leaves of a picture of this size."""
        return 1 - (self.bottom - self.top) * (self.right - self.left) / (height * width)


def drawn_box(share: float, height: int, width: int, generator: torch.Generator) -> Box:
    """A box with a middle anywhere in a picture, cut off at its edges.

    Args:
        share: of the picture, that is left where the box is not cut off.
        height: of the picture.
        width: of the picture.
        generator: draws the middle.

    Source: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers, ICCV 2019, equation 2.
    """
    sides = []
    for length in (height, width):
        half = int(length * math.sqrt(1 - share)) // 2
        middle = int(torch.randint(length, (), generator=generator))
        sides += [max(middle - half, 0), min(middle + half, length)]
    return Box(*sides)


def with_boxes(
    batch: Split, partner: Split, share: float, generator: torch.Generator
) -> tuple[Split, dict[str, float]]:
    """A batch whose pictures have a box of their partners, and by task the share of each example's own label.

    The labels of pixels are cut along with them, and are then an example's own, so their share is 1; that of others is
    what is left of the area. Inputs that are no pictures stay.

    Args:
        batch: with pictures.
        partner: an example for each.
        share: of a picture, that is left where the box is not cut off.
        generator: draws the place of the box, which is the same in all pictures of the batch.
    """
    picture = first_picture(batch.inputs)
    height, width = picture.shape[2:]
    box = drawn_box(share, height, width, generator)
    left = box.share(height, width)
    targets, shares = dict(batch.targets), dict.fromkeys(batch.targets, left)
    for name, axis in axes_of_pixels(batch.targets, picture).items():
        targets[name], shares[name] = _cut(batch.targets[name], partner.targets[name], box=box, axis=axis), 1.0
    return Split(mapped_together(partial(_cut_pictures, box=box), batch.inputs, partner.inputs), targets), shares


def axes_of_pixels(targets: Mapping[str, Tensor], picture: Tensor) -> dict[str, int]:
    """By task the first axis of pixels, of tasks that have labels of pixels."""
    axes = {name: pixel_axis(label, picture) for name, label in targets.items()}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _cut_pictures(own: Tensor, others: Tensor, *, box: Box) -> Tensor:
    return _cut(own, others, box=box, axis=2) if is_picture(own) else own


def _cut(own: Tensor, others: Tensor, *, box: Box, axis: int) -> Tensor:
    """Values (N, ..., H, W, ...), in the box those of others."""
    place = [slice(None)] * axis + [slice(box.top, box.bottom), slice(box.left, box.right)]
    found = own.clone()
    found[tuple(place)] = others[tuple(place)]
    return found
