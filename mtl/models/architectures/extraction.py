"""Customized gate control, and progressive layered extraction, which is several levels of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mtl.hyperparameters import hyper
from mtl.models.architectures.architecture import Architecture
from mtl.models.architectures.copies import check_branches, copies
from mtl.models.architectures.experts import GatedExperts, SoftmaxGate
from mtl.models.trunks import Trunk


def extraction(
    trunk: Trunk, outputs: Mapping[str, int], inputs: Any, experts: int, own: int, levels: int
) -> GatedExperts:
    """Shared experts and some of each task's own, in levels."""
    every = copies(trunk, inputs, experts + own * len(outputs))
    of_task = {task: every[experts + own * k : experts + own * (k + 1)] for k, task in enumerate(outputs)}
    return GatedExperts(every[:experts], of_task, outputs, SoftmaxGate, inputs, levels)


@dataclass(frozen=True)
class CGC(Architecture):
    """Customized gate control: each task's gate mixes experts that all tasks share with experts of its own."""

    name: ClassVar[str] = "cgc"
    paper: ClassVar[str] = "Tang et al., Progressive Layered Extraction (PLE), RecSys 2020, section 4.1"
    shared: ClassVar[str] = "the shared experts; gates and a task's experts are its own"
    experts: int = hyper(2, 1, search=(1, 8), log=True, doc="copies of the trunk that all tasks share")
    own: int = hyper(1, 1, search=(1, 8), log=True, doc="copies of each task's own")

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> GatedExperts:
        return extraction(trunk, outputs, inputs, self.experts, self.own, 1)


@dataclass(frozen=True)
class PLE(Architecture):
    """Progressive layered extraction: levels of customized gate control, over which the trunk's stages are spread.

    Below the last level a shared gate mixes the experts of all tasks for the shared experts above.
    """

    name: ClassVar[str] = "ple"
    paper: ClassVar[str] = "Tang et al., Progressive Layered Extraction (PLE), RecSys 2020"
    shared: ClassVar[str] = (
        "the shared experts and gates, all experts below the last level, and the tasks' gates below the last two"
    )
    experts: int = hyper(2, 1, search=(1, 8), log=True, doc="copies of the trunk that all tasks share")
    own: int = hyper(1, 1, search=(1, 8), log=True, doc="copies of each task's own")
    levels: int = hyper(2, 2, 16, doc="levels of gates, at most as many as the trunk has stages")

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> GatedExperts:
        first = copies(trunk, inputs, 1)[0]
        check_branches(self.name, first, trunk)
        if self.levels > first.count:
            raise ValueError(f"ple: levels={self.levels}, and the model {trunk} has {first.count} stages to spread")
        return extraction(trunk, outputs, inputs, self.experts, self.own, self.levels)
