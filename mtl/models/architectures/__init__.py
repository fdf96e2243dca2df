"""How tasks share a network, by name, with hyperparameters: `mmoe:experts=4`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mtl.hyperparameters import read_unit
from mtl.models.architectures.architecture import Architecture, Shared
from mtl.models.architectures.branching import LearningToBranch
from mtl.models.architectures.cross_stitch import CrossStitch
from mtl.models.architectures.dselect_k import DSelectK
from mtl.models.architectures.extraction import CGC, PLE
from mtl.models.architectures.hard_sharing import HardSharing, HardSharingRecipe
from mtl.models.architectures.mmoe import MMoE
from mtl.models.architectures.mtan import MTAN

__all__ = ["ARCHITECTURES", "Architecture", "HardSharing", "Shared", "make_architecture"]

ARCHITECTURES: Mapping[str, type[Architecture]] = MappingProxyType(
    {cls.name: cls for cls in (HardSharingRecipe, CrossStitch, MMoE, CGC, PLE, MTAN, DSelectK, LearningToBranch)}
)


def make_architecture(spec: str) -> Architecture:
    """The architecture that a spec such as `mmoe:experts=4` names; a `ValueError` says what is wrong with it."""
    cls, values = read_unit(spec, ARCHITECTURES, "architecture")
    return cls(**values)
