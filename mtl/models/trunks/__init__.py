"""Trunks by name, with their sizes as hyperparameters: `mlp:width=128,depth=3`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mtl.hyperparameters import read_unit
from mtl.models.trunks.convolution import Conv, LeNet
from mtl.models.trunks.encoders import HuggingFace, Timm
from mtl.models.trunks.perceptron import MLP
from mtl.models.trunks.resnet import ResNet18, ResNet34
from mtl.models.trunks.schnet import SchNet
from mtl.models.trunks.segnet import SegNet
from mtl.models.trunks.table import Table
from mtl.models.trunks.transformer import Transformer
from mtl.models.trunks.trunk import Shape, Stages, Trunk, shape_of
from mtl.models.trunks.unet import UNet

__all__ = ["MLP", "MODELS", "Conv", "LeNet", "Shape", "Stages", "Table", "Trunk", "make_trunk", "shape_of"]

MODELS: Mapping[str, type[Trunk]] = MappingProxyType(
    {
        cls.name: cls
        for cls in (
            *(MLP, Table, Conv, LeNet, ResNet18, ResNet34, UNet, SegNet, Transformer, SchNet),
            *(Timm, HuggingFace),
        )
    }
)


def make_trunk(spec: str) -> Trunk:
    """The trunk that a spec such as `mlp:width=64` names; a `ValueError` says what is wrong with it."""
    name, colon, settings = spec.partition(":")
    cls = MODELS.get(name.strip())
    if cls is not None and cls.unnamed and colon and "=" not in settings.partition(",")[0]:
        spec = f"{name}:{cls.unnamed}={settings}"
    cls, values = read_unit(spec, MODELS, "model")
    return cls(**values)
