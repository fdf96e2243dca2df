"""Hard parameter sharing (Caruana 1993): one trunk for all tasks, one head a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn


class HardSharing(nn.Module):
    """Features from a shared trunk, read by one head a task.

    Args:
        trunk: any module from a batch of inputs to features.
        heads: a module a task, from the trunk's features to predictions.
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Predictions by task."""
        features = self.trunk(inputs)
        return {task: head(features) for task, head in self.heads.items()}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The trunk's parameters: what strategies compare gradients on."""
        return self.trunk.parameters()
