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
        self.heads = nn.ModuleDict({_key(task): head for task, head in heads.items()})
        self._tasks = list(heads)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Predictions by task."""
        features = self.trunk(inputs)
        return {task: head(features) for task, head in zip(self._tasks, self.heads.values(), strict=True)}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The trunk's parameters: what strategies compare gradients on."""
        return self.trunk.parameters()


def _key(task: str) -> str:
    """The task's name where a module may have it; otherwise with characters as in a URL, so that none is lost.

    A name with a dot would be that of a module within a module, and some names (`type`, `keys`) are taken.
    """
    key = task.replace("%", "%25").replace(".", "%2E")
    return f"%{ord(key[0]):02X}{key[1:]}" if hasattr(nn.ModuleDict(), key) else key
