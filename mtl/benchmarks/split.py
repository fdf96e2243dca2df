"""The examples of a split: in memory, or wherever a data set reads them from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks import tree
from mtl.benchmarks.reading import Loader, Request

#: From the steps of some members to what each of them reads.
RequestsAt = Callable[[Sequence[int]], Sequence[Request]]


class Examples(ABC):
    """The examples of a split, wherever they are kept.

    Attributes:
        targets: labels (N, ...) of each task; missing labels are NaN or -100, one by one.
        shared_batches: all runs see the same batches, whatever their seeds.
    """

    targets: Mapping[str, Tensor]
    shared_batches: bool = False

    def of_task(self, task: str) -> Examples:  # noqa: ARG002
        """The examples that a task is trained and measured on; all tasks share them, unless they have their own."""
        return self

    def only(self, tasks: Sequence[str]) -> Examples:  # noqa: ARG002
        """What is needed for some tasks: all, unless tasks have examples of their own."""
        return self

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where batches are."""

    @property
    def sampled(self) -> bool:
        """Whether `targets` are those of a sample of the examples."""
        return False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: Tensor | slice) -> Split:
        """The examples at `index`."""

    def labelled(self, rows: Tensor) -> Split:
        """The examples whose labels stand at `rows` of `targets`."""
        return self.take(rows)

    def loader(self, plan: RequestsAt) -> Loader | None:  # noqa: ARG002
        """Reads batches by a plan; None where they are gathered by `take`, on `device`."""
        return None

    @abstractmethod
    def to(self, device: torch.device | str) -> Examples:
        """The same examples with batches on another device."""

    @abstractmethod
    def marked(self, ignored: Mapping[str, float]) -> Examples:
        """The same examples, where these labels, by task, are missing ones: NaN or -100."""

    @abstractmethod
    def fingerprint(self) -> Any:
        """What tells these examples apart from others: tensors and plain values, in any nesting."""

    def first(self, count: int) -> Any:
        """The inputs of the first examples, for their shapes."""
        return self.take(slice(count)).inputs

    def chunks(self, size: int) -> Iterator[Split]:
        """All examples in their order, so many at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


@dataclass(frozen=True)
class Split(Examples):
    """Examples in memory.

    Args:
        inputs: a tensor (N, ...), or tensors (N, ...) in any nesting of dicts, tuples, lists and named tuples.
        targets: labels (N, ...) of each task; missing labels are NaN or -100, one by one. Of a task's own examples, the
            labels alone will do.
    """

    inputs: Any
    targets: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(tree.first_tensor(self.inputs))

    @property
    def device(self) -> torch.device:
        """Where the inputs are."""
        return tree.first_tensor(self.inputs).device

    def take(self, index: Tensor | slice) -> Split:
        """The examples at `index`, a tensor of any shape or a slice."""
        inputs = tree.mapped(lambda leaf: leaf[index], self.inputs)
        return Split(inputs, {task: target[index] for task, target in self.targets.items()})

    def row(self, number: int) -> Split:
        """Of many batches (N, B, ...) one."""
        inputs = tree.mapped(lambda leaf: leaf[number], self.inputs)
        return Split(inputs, {task: target[number] for task, target in self.targets.items()})

    def to(self, device: torch.device | str) -> Split:
        """The same examples on another device."""
        inputs = tree.mapped(lambda leaf: leaf.to(device), self.inputs)
        return Split(inputs, {task: target.to(device) for task, target in self.targets.items()})

    def marked(self, ignored: Mapping[str, float]) -> Split:
        """The same examples, where these labels, by task, are missing ones: NaN or -100."""
        if not ignored:
            return self
        return Split(
            self.inputs, {task: tree.marked(target, ignored.get(task)) for task, target in self.targets.items()}
        )

    def fingerprint(self) -> Any:
        """All inputs and labels."""
        return self.inputs, dict(sorted(self.targets.items()))
