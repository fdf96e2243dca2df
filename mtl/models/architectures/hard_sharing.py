"""Hard parameter sharing: one trunk for all tasks, one head a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from mtl.models.architectures.architecture import Architecture, Shared
from mtl.models.heads import make_head
from mtl.models.trunks import Trunk, shape_of


class HardSharing(Shared):
    """Features from a shared trunk, read by one head a task.

    Args:
        trunk: any module from a batch of inputs to features.
        heads: a module a task, from the trunk's features to predictions.
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self._have_heads(heads)

    def forward(self, inputs: Any, only: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task, all or only these."""
        features = self.trunk(inputs)
        return {task: self.heads[name](features) for task, name in self._wanted(only)}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The trunk's parameters: what strategies compare gradients on."""
        return self.trunk.parameters()


@dataclass(frozen=True)
class HardSharingRecipe(Architecture):
    """One trunk for all tasks, and a head for each: the architecture of most work on weighting losses."""

    name: ClassVar[str] = "hard-sharing"
    paper: ClassVar[str] = "Caruana, Multitask Learning: A Knowledge-Based Source of Inductive Bias, ICML 1993"
    shared: ClassVar[str] = "the trunk"

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> HardSharing:
        stages, _ = trunk.build(shape_of(inputs))
        return HardSharing(stages, {task: make_head(stages, units) for task, units in outputs.items()})
