"""Multi-task attention network: one trunk, of whose activations each task keeps what its attention lets through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.architectures.architecture import Architecture, Shared, module_names
from mtl.models.architectures.copies import on_cpu
from mtl.models.heads import make_head
from mtl.models.trunks import Stages, Trunk, shape_of
from mtl.models.trunks.pictures import NORMS, norm


class TaskAttention(nn.Module):
    """The attention of one task at one stage.

    Args:
        before: channels of what the task attended to at the stage before; 0 at the first.
        inside: channels of the shared activation after the stage's first part.
        after: channels of it after the second part, which the mask is for.
        pictures: activations are (B, channels, H, W), and layers are convolutions; otherwise linear maps.
        kind: normalisation of pictures.
    """

    def __init__(self, before: int, inside: int, after: int, *, pictures: bool, kind: str) -> None:
        super().__init__()

        def layer(start: int, stop: int, side: int = 1) -> list[nn.Module]:
            if not pictures:
                return [nn.Linear(start, stop)]
            return [nn.Conv2d(start, stop, side, padding=side // 2, bias=kind == "none"), norm(kind, stop)]

        self.taken = nn.Sequential(*layer(before, inside, 3), nn.ReLU()) if before else None
        both = inside * 2 if before else inside
        self.mask = nn.Sequential(*layer(both, after), nn.ReLU(), *layer(after, after), nn.Sigmoid())
        self.axis = 1 if pictures else -1

    def forward(self, inner: Tensor, outer: Tensor, attended: Tensor | None) -> Tensor:
        """What the task attends to at this stage."""
        if self.taken is not None and attended is not None:
            taken = resized(self.taken(attended), inner) if self.axis == 1 else self.taken(attended)
            inner = torch.cat([inner, taken], self.axis)
        found: Tensor = self.mask(inner) * outer
        return found


def resized(value: Tensor, like: Tensor) -> Tensor:
    """Pictures in the size of others: the largest of what falls together, or between neighbours where they grow."""
    size, wanted = value.shape[-2:], like.shape[-2:]
    if size == wanted:
        return value
    if size[0] < wanted[0] or size[1] < wanted[1]:
        return F.interpolate(value, wanted, mode="bilinear", align_corners=False)
    return F.adaptive_max_pool2d(value, wanted)


class AttentionNetwork(Shared):
    """A shared trunk, with an attention at each stage for each task.

    Args:
        trunk: of all tasks.
        outputs: units of each task's head.
        kind: normalisation within attentions of pictures.
        inputs: a few examples.
    """

    def __init__(self, trunk: Stages, outputs: Mapping[str, int], kind: str, inputs: Any) -> None:
        super().__init__()
        names = module_names(outputs)
        self.trunk = trunk
        shapes = self._shapes(inputs)
        self.attentions = nn.ModuleList()
        before = 0
        for inner, outer in shapes:
            axis = 1 if len(inner) == 4 else -1
            made = {
                name: TaskAttention(before, inner[axis], outer[axis], pictures=axis == 1, kind=kind)
                for name in names.values()
            }
            self.attentions.append(nn.ModuleDict(made))
            before = outer[axis]
        self._have_heads({task: make_head(trunk, units) for task, units in outputs.items()})

    def _shapes(self, inputs: Any) -> list[tuple[torch.Size, torch.Size]]:
        """Of the activation after the first and the second part of each stage."""
        found = []
        training = self.trunk.training
        self.trunk.eval()
        with torch.no_grad():
            value, carried = self.trunk.begin(on_cpu(inputs))
            for index in range(self.trunk.count):
                inner, carried = self.trunk.inner(index, value, carried)
                outer, carried = self.trunk.outer(index, inner, carried)
                found.append((inner.shape, outer.shape))
                value, carried = self.trunk.after(index, outer, carried)
        self.trunk.train(training)
        return found

    def forward(self, inputs: Any, only: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task, all or only these."""
        named = self._wanted(only)
        value, carried = self.trunk.begin(inputs)
        attended: dict[str, Tensor | None] = {task: None for _, task in named}
        for index in range(self.trunk.count):
            inner, carried = self.trunk.inner(index, value, carried)
            outer, carried = self.trunk.outer(index, inner, carried)
            here: Any = self.attentions[index]
            attended = {task: here[task](inner, outer, attended[task]) for task in attended}
            value, following = self.trunk.after(index, outer, carried)
            if index == self.trunk.count - 1:
                attended = {task: self.trunk.after(index, found, carried)[0] for task, found in attended.items()}  # type: ignore[arg-type]
            carried = following
        features = {task: self.trunk.end(found, carried) for task, found in attended.items()}  # type: ignore[arg-type]
        return {name: self.heads[task](features[task]) for name, task in named}

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The trunk's parameters; attentions are the tasks' own."""
        return self.trunk.parameters()


@dataclass(frozen=True)
class MTAN(Architecture):
    """One trunk; at each stage every task has an attention, a mask in [0, 1] on the shared activation.

    The mask is made from the stage's first part and from what the task attended to before; it is for the second part.
    As in the paper attention is a 3 x 3 convolution on what was attended to before and two 1 x 1 ones; where
    activations are vectors, linear maps. What was attended to before is brought to the present size by pooling or
    interpolation.
    """

    name: ClassVar[str] = "mtan"
    paper: ClassVar[str] = "Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019"
    shared: ClassVar[str] = "the trunk; attentions are the tasks' own"
    norm: str = hyper("batch", choices=NORMS, doc="normalisation within attentions of pictures")

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> AttentionNetwork:
        stages, _ = trunk.build(shape_of(inputs))
        return AttentionNetwork(stages, outputs, self.norm, inputs)
