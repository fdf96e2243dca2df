"""Models: trunks by name, and architectures by name that say how tasks share one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtl.models.architectures import ARCHITECTURES, Architecture, HardSharing, Shared, make_architecture
from mtl.models.heads import PixelHead, begin_at, make_head
from mtl.models.trunks import MLP, MODELS, Conv, Shape, Stages, Trunk, make_trunk, shape_of

__all__ = [
    "ARCHITECTURES",
    "MLP",
    "MODELS",
    "Architecture",
    "Conv",
    "HardSharing",
    "PixelHead",
    "Shape",
    "Shared",
    "Stages",
    "Trunk",
    "begin_at",
    "make_architecture",
    "make_head",
    "make_model",
    "make_trunk",
    "shape_of",
]


def make_model(architecture: str, trunk: str, outputs: Mapping[str, int], inputs: Any) -> Shared:
    """A model of several tasks, its parameters drawn from torch's global generator.

    Args:
        architecture: spec of how the tasks share it, such as `hard-sharing` or `mmoe:experts=4`.
        trunk: spec of what they share, such as `mlp:width=64`.
        outputs: units of each task's head.
        inputs: a few examples, tensors (B, ...) in any nesting, for their shape.

    Raises:
        ValueError: a spec that cannot be read, or parts that do not fit together; one line.
    """
    return make_architecture(architecture).build(make_trunk(trunk), outputs, inputs)
