"""Experts and gates: each task reads a mixture of trunks, in one level or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mtl.models.architectures.architecture import Shared, module_names
from mtl.models.architectures.copies import parameters_of, starts
from mtl.models.heads import make_head
from mtl.models.trunks import Stages
from mtl.models.trunks.trunk import Carried


class Gate(nn.Module, ABC):
    """From what it reads (B, size) to the weight (B, experts) of each expert."""

    @abstractmethod
    def forward(self, summary: Tensor) -> Tensor:
        """The weights; they sum to one."""


class SoftmaxGate(Gate):
    """The softmax of a linear map without bias (Ma et al. 2018, equation 7)."""

    def __init__(self, size: int, experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, experts, bias=False)

    def forward(self, summary: Tensor) -> Tensor:
        return self.linear(summary).softmax(-1)  # type: ignore[no-any-return]


class GatedExperts(Shared):
    """Levels of experts, and gates that mix what the experts of a level give.

    An expert is a copy of the trunk; with several levels, its stages are spread over them. At each level a task's gate
    mixes its own experts and the shared ones; the shared gate, at all levels but the last, mixes all there are. A gate
    reads what the experts beside it read.

    Args:
        shared: the experts of all tasks; the first one's entry begins for all.
        own: the experts of each task, by task; as many for each.
        outputs: units of each task's head.
        gate: makes a gate from the size of what it reads and the number of experts.
        inputs: a few examples.
        levels: at most as many as the trunk has stages.
    """

    def __init__(
        self,
        shared: Sequence[Stages],
        own: Mapping[str, Sequence[Stages]],
        outputs: Mapping[str, int],
        gate: type[Gate] | Any,
        inputs: Any,
        levels: int = 1,
    ) -> None:
        super().__init__()
        names = module_names(outputs)
        self._tasks = list(names.values())
        self.shared = nn.ModuleList(shared)
        self.own = nn.ModuleDict({names[task]: nn.ModuleList(experts) for task, experts in own.items()})
        self._first = shared[0]
        count = self._first.count
        self._spans = list(pairwise([count * level // levels for level in range(levels + 1)]))
        begun = starts(self._first, inputs)
        sizes = [self._first.summary(*begun[start]).shape[1] for start, _ in self._spans]
        beside = {name: len(shared) + len(self._own(name)) for name in self._tasks}
        every = len(shared) + sum(len(self._own(name)) for name in self._tasks)
        self.gates = nn.ModuleList(
            nn.ModuleDict({name: gate(size, beside[name]) for name in self._tasks}) for size in sizes
        )
        self.shared_gates = nn.ModuleList(gate(size, every) for size in sizes[:-1])
        self._have_heads({task: make_head(self._first, units) for task, units in outputs.items()})

    def forward(self, inputs: Any, only: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task, all or only these."""
        named = self._wanted(only)
        last = [task for _, task in named]
        value, carried = self._first.begin(inputs)
        common, each = value, dict.fromkeys(self._tasks, value)
        for level in range(len(self._spans)):
            # Below the last level all experts are mixed for all.
            tasks = self._tasks if level < len(self.shared_gates) else last
            shared = [self._expert(expert, level, common, carried) for expert in self.shared]
            own = {
                task: [self._expert(expert, level, each[task], carried) for expert in self._own(task)] for task in tasks
            }
            together = None if any(own.values()) else torch.stack(shared, 1)
            gates: Any = self.gates[level]
            mixed = {
                task: weighted(
                    gates[task](self._first.summary(each[task], carried)),
                    torch.stack([*own[task], *shared], 1) if together is None else together,
                )
                for task in tasks
            }
            if level < len(self.shared_gates):
                weights = self.shared_gates[level](self._first.summary(common, carried))
                everything = [found for task in tasks for found in own[task]] + shared
                common = weighted(weights, torch.stack(everything, 1))
            each = mixed
        return {name: self.heads[task](each[task]) for name, task in named}

    def _own(self, task: str) -> Any:
        return self.own[task] if task in self.own else ()  # noqa: SIM401

    def _expert(self, expert: Any, level: int, value: Tensor, carried: Carried) -> Tensor:
        """What an expert gives at one level; at the last one, features."""
        for index in range(*self._spans[level]):
            value, carried = expert.run(index, value, carried)
        found: Tensor = expert.end(value, carried) if level == len(self._spans) - 1 else value
        return found

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Those of the shared experts.

        With several levels also what a shared gate passes on to all: the tasks' experts of all levels but the last, the
        shared gates, and the tasks' gates of all levels but the last two.
        """
        yield from self.shared.parameters()
        until = self._spans[-1][0]
        for task in self._tasks:
            for expert in self._own(task):
                yield from parameters_of(module for index in range(until) for module in expert.stage(index))
        yield from self.shared_gates.parameters()
        for gates in self.gates[:-2]:
            yield from gates.parameters()


def weighted(weights: Tensor, values: Tensor) -> Tensor:
    """The sum (B, ...) of values (B, experts, ...) with weights (B, experts)."""
    return (weights[:, None] @ values.flatten(2))[:, 0].view(values.shape[0], *values.shape[2:])
