"""Learning to branch: a tree of blocks, in which each block and each task learns whose output it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.architectures.architecture import Architecture, Shared
from mtl.models.architectures.copies import check_branches, copies
from mtl.models.architectures.draws import Draws
from mtl.models.heads import make_head
from mtl.models.trunks import Stages, Trunk


class Tree(Shared):
    """Layers of blocks; each block above the first layer, and each task's head, reads one block below.

    In training a reader's choice is a sample of the Gumbel-softmax distribution, whose temperature falls step by step;
    in evaluation it is the likeliest. The samples are a function of two buffers, a seed and the number of steps, so
    that members of a population have those of single runs.

    Args:
        blocks: copies of the trunk; stage l of each is a block of layer l, and the first one's entry begins for all.
        outputs: units of each task's head.
        recipe: the temperatures.
    """

    def __init__(self, blocks: Sequence[Stages], outputs: Mapping[str, int], recipe: LearningToBranch) -> None:
        super().__init__()
        self._recipe = recipe
        self.blocks = nn.ModuleList(blocks)
        width, layers = len(blocks), blocks[0].count
        #: What is preferred: for each layer above the first, (readers, blocks below).
        self.choices = nn.ParameterList([nn.Parameter(torch.zeros(width, width)) for _ in range(layers - 1)])
        #: The same for each task, (blocks,).
        self.task_choices = nn.ParameterList([nn.Parameter(torch.zeros(width)) for _ in outputs])
        self._have_heads({task: make_head(blocks[0], units) for task, units in outputs.items()})
        self.draws = Draws()

    def forward(self, inputs: Any, only: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task, all or only these; where tasks are asked for one by one, one draw serves all."""
        first: Any = self.blocks[0]
        value, carried = first.begin(inputs)
        values = [value] * len(self.blocks)
        *between, last = self._chosen(again=only is not None and self.headed_tasks[0] not in only)
        for layer in range(first.count):
            if layer:
                values = _read(between[layer - 1], values)
            pairs = zip(self.blocks, values, strict=True)
            values = [block.run(layer, value, carried)[0] for block, value in pairs]  # type: ignore[operator]
        features = [block.end(value, carried) for block, value in zip(self.blocks, values, strict=True)]  # type: ignore[operator]
        read = dict(zip(self.headed_tasks, _read(last, features), strict=True))
        return {task: self.heads[name](read[task]) for task, name in self._wanted(only)}

    def _chosen(self, *, again: bool) -> list[Tensor]:
        """For each layer above the first, and the tasks, what readers read: (readers, blocks below), rows sum to 1.

        Args:
            again: the choices of the pass before, in training.
        """
        preferred = [*self.choices, torch.stack(list(self.task_choices))]
        if not self.training:
            return [F.one_hot(each.argmax(1), each.shape[1]).to(each.dtype) for each in preferred]
        draw = self.draws.again if again else self.draws
        noise, steps = draw(sum(each.numel() for each in preferred))
        pieces = noise.split([each.numel() for each in preferred])
        temperature = self._temperature(steps)
        return [
            ((each + piece.view(each.shape).to(each)) / temperature.to(each)).softmax(1)
            for each, piece in zip(preferred, pieces, strict=True)
        ]

    def _temperature(self, steps: Tensor) -> Tensor:
        """From the first to the last temperature, each step by the same factor."""
        recipe = self._recipe
        done = (steps.to(torch.get_default_dtype()) / recipe.anneal).clamp(max=1)
        return recipe.temperature * (recipe.coldest / recipe.temperature) ** done

    def branches(self) -> dict[str, list[int]]:
        """For each task the blocks that it is made of in evaluation, one a layer from the inputs up."""
        found = {}
        for task, choice in zip(self.headed_tasks, self.task_choices, strict=True):
            path = [int(choice.argmax())]
            for each in reversed(list(self.choices)):
                path.insert(0, int(each[path[0]].argmax()))
            found[task] = path
        return found

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """All blocks and their choices; a task's own choice is its own."""
        yield from self.blocks.parameters()
        yield from self.choices

    def own_parameters(self, task: str) -> Iterator[nn.Parameter]:
        """Those of its head, and what it chooses by."""
        yield from super().own_parameters(task)
        yield self.task_choices[self.headed_tasks.index(task)]


def _read(chosen: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
    """What each reader reads: values (B, ...) of the blocks below, mixed with weights (readers, blocks)."""
    stacked = torch.stack(list(values))
    return list((chosen.to(stacked) @ stacked.flatten(1)).view(len(chosen), *stacked.shape[1:]))


@dataclass(frozen=True)
class LearningToBranch(Architecture):
    """A tree of blocks: every block, and every task, learns which block of the layer below it reads.

    Choices are Gumbel-softmax samples in training, and the likeliest ones in evaluation; `branches()` of the model
    shows the tree. All is trained together; how the temperature falls is our choice. The paper trains the tree that was
    found once more from scratch, which is left to the user.
    """

    name: ClassVar[str] = "learning-to-branch"
    paper: ClassVar[str] = "Guo et al., Learning to Branch for Multi-Task Learning, ICML 2020"
    shared: ClassVar[str] = "all blocks and what they choose; a task's choice is its own"
    blocks: int = hyper(0, 0, doc="blocks in each layer, copies of the trunk's stage; 0: one a task")
    temperature: float = hyper(5.0, 1e-2, search=(1.0, 20.0), log=True, doc="of the samples at the start")
    coldest: float = hyper(0.1, 1e-2, doc="temperature at the end")
    anneal: int = hyper(1000, 1, search=(100, 10000), log=True, doc="steps from the first temperature to the last")

    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> Tree:
        blocks = copies(trunk, inputs, self.blocks or len(outputs))
        check_branches(self.name, blocks[0], trunk)
        return Tree(blocks, outputs, self)
