"""Architectures: trunks by name, and hard parameter sharing around any trunk."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from mtl.models.sharing import HardSharing
from mtl.models.trunks import MLP, MODELS, Conv, Trunk, make_trunk

__all__ = ["ARCHITECTURES", "MLP", "MODELS", "Conv", "HardSharing", "Trunk", "make_trunk"]

#: How tasks share a model, by name.
ARCHITECTURES: Mapping[str, type[nn.Module]] = MappingProxyType({"hard-sharing": HardSharing})
