"""Architectures: trunks by name, and hard parameter sharing around any trunk."""

from mtl.models.sharing import HardSharing
from mtl.models.trunks import MLP, MODELS, Conv, Trunk, make_trunk

__all__ = ["MLP", "MODELS", "Conv", "HardSharing", "Trunk", "make_trunk"]
