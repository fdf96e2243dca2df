"""Cross-stitch networks: a trunk for each task, and units that mix their activations between stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.architectures.architecture import Architecture, Shared
from mtl.models.architectures.copies import copies, parameters_of, starts
from mtl.models.heads import make_head
from mtl.models.trunks import Stages, Trunk


class CrossStitchNetwork(Shared):
    """A trunk for each of K tasks; behind each stage, every task reads a mixture of all tasks' activations.

    Args:
        trunks: one a task; the first one's entry begins for all.
        outputs: units of each task's head.
        same: share of a task's own activation in its mixture at the start; the others share the rest.
        channels: for each stage, how many channels have mixtures of their own; 1 for all channels alike.
    """

    def __init__(
        self, trunks: Sequence[Stages], outputs: Mapping[str, int], same: float, channels: Sequence[int]
    ) -> None:
        super().__init__()
        tasks, first = len(outputs), trunks[0]
        self.trunks = nn.ModuleList(trunks)
        self._have_heads({task: make_head(first, units) for task, units in outputs.items()})
        other = (1 - same) / max(tasks - 1, 1)
        start = torch.eye(tasks) * (same - other) + other if tasks > 1 else torch.ones(1, 1)
        # A row is a task's own: that of the last unit is the one part of the units that a single task reads.
        self.units = nn.ModuleList(
            nn.ParameterList([nn.Parameter(row[:, None].repeat(1, size)) for row in start]) for size in channels
        )

    def forward(self, inputs: Any, only: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task, all or only these."""
        first: Any = self.trunks[0]
        value, common = first.begin(inputs)
        values, carried = [value] * len(self.trunks), [common] * len(self.trunks)
        for index in range(first.count):
            for task, trunk in enumerate(self.trunks):
                values[task], carried[task] = trunk.run(index, values[task], carried[task])  # type: ignore[operator]
            values = self._mixed(index, torch.stack(values), first.channels_first)
        features = [trunk.end(*rest) for trunk, *rest in zip(self.trunks, values, carried, strict=True)]  # type: ignore[operator]
        of_task = dict(zip(self.headed_tasks, features, strict=True))
        return {task: self.heads[name](of_task[task]) for task, name in self._wanted(only)}

    def _mixed(self, index: int, values: Tensor, channels_first: bool) -> list[Tensor]:
        """Each task's mixture of activations (K, B, ...)."""
        rows: Any = self.units[index]
        unit = torch.stack(list(rows))  # (K, K, channels)
        if unit.shape[-1] == 1:
            return list((unit[:, :, 0] @ values.flatten(1)).view(values.shape))
        places = "kbc..." if channels_first else "kb...c"
        return list(torch.einsum(f"jkc,{places}->{places.replace('k', 'j')}", unit, values))

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """All that lies below the last unit: the trunks but for their ends, and the units but for the last."""
        first: Any = self.trunks[0]
        yield from parameters_of(first.entry())
        for trunk in self.trunks:
            stages = (trunk.stage(index) for index in range(first.count))  # type: ignore[operator]
            yield from parameters_of(module for stage in stages for module in stage)
        yield from parameters_of(self.units[:-1])

    def own_parameters(self, task: str) -> Iterator[nn.Parameter]:
        """Those of its head, of the end of its trunk, and of its row of the last unit."""
        yield from super().own_parameters(task)
        place, last = self.headed_tasks.index(task), self.units[-1]
        yield from parameters_of(self.trunks[place].tail())  # type: ignore[operator]
        yield last[place]  # type: ignore[index]


@dataclass(frozen=True)
class CrossStitch(Architecture):
    """A trunk for each task; behind each stage, units mix the tasks' activations with weights that are learned.

    The paper trains the units at a higher rate than the rest, and begins from networks trained for each task; here all
    is trained together from the start. Skip connections of a trunk stay within it.
    """

    name: ClassVar[str] = "cross-stitch"
    paper: ClassVar[str] = "Misra et al., Cross-stitch Networks for Multi-task Learning, CVPR 2016"
    shared: ClassVar[str] = "all trunks, but for what is behind their last unit, and all units but the last"
    same: float = hyper(0.9, 0.0, 1.0, search=(0.5, 1.0), doc="weight of a task's own activation at the start")
    per_channel: bool = hyper(False, doc="weights for each channel, in place of one for all")

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> CrossStitchNetwork:
        trunks = copies(trunk, inputs, len(outputs))
        axis = 1 if trunks[0].channels_first else -1
        channels = [1] * trunks[0].count
        if self.per_channel:
            channels = [value.shape[axis] for value, _ in starts(trunks[0], inputs)[1:]]
        return CrossStitchNetwork(trunks, outputs, self.same, channels)
