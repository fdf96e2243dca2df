"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mtl.hyperparameters import hyper
from mtl.models.architectures.architecture import Architecture
from mtl.models.architectures.copies import copies
from mtl.models.architectures.experts import GatedExperts, SoftmaxGate
from mtl.models.trunks import Trunk


@dataclass(frozen=True)
class MMoE(Architecture):
    """Multi-gate mixture of experts: each expert is a trunk that all tasks share, and each task has a gate that mixes
    them, the softmax of a linear map of the inputs."""

    name: ClassVar[str] = "mmoe"
    paper: ClassVar[str] = "Ma et al., Modeling Task Relationships in Multi-task Learning with MMoE, KDD 2018"
    shared: ClassVar[str] = "the experts; a gate is its task's own"
    experts: int = hyper(4, 1, search=(2, 16), log=True, doc="copies of the trunk")

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> GatedExperts:
        return GatedExperts(copies(trunk, inputs, self.experts), {}, outputs, SoftmaxGate, inputs)
