"""What a benchmark is: tasks, data splits and a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.benchmarks import tree
from mtl.losses import IGNORE, TaskLoss
from mtl.metrics import Metric
from mtl.models import make_model


@dataclass(frozen=True)
class Task:
    """One task: its loss, its metrics (the first is the primary one) and the width of its head.

    Args:
        name: key of the task in targets, losses and results.
        loss: a `Loss`, or a function from (prediction, target) to a scalar mean. With one prediction for each label a
            function gets both in the shape of the labels, (N,) or (N, ...), and has to leave out labels that are NaN.
        metrics: primary metric first.
        outputs: units of the head.
        ignore: the label that says that one is missing, where it is not NaN (floating point) or -100 (whole numbers);
            such labels become NaN or -100 when the data is loaded.
    """

    name: str
    loss: TaskLoss
    metrics: tuple[Metric, ...]
    outputs: int = 1
    ignore: float | None = None


class Examples(ABC):
    """The examples of a split, wherever they are kept.

    Attributes:
        targets: labels (N, ...) of each task; missing labels are NaN or -100, one by one.
    """

    targets: Mapping[str, Tensor]

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where batches are."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: Tensor | slice) -> Split:
        """The examples at `index`."""

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
        targets: labels (N, ...) of each task; missing labels are NaN or -100, one by one.
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

    def to(self, device: torch.device | str) -> Split:
        """The same examples on another device."""
        inputs = tree.mapped(lambda leaf: leaf.to(device), self.inputs)
        return Split(inputs, {task: target.to(device) for task, target in self.targets.items()})

    def marked(self, ignored: Mapping[str, float]) -> Split:
        """The same examples, where these labels, by task, are missing ones: NaN or -100."""
        if not ignored:
            return self
        return Split(self.inputs, {task: marked(target, ignored.get(task)) for task, target in self.targets.items()})

    def fingerprint(self) -> Any:
        """All inputs and labels."""
        return self.inputs, dict(sorted(self.targets.items()))


def marked(target: Tensor, ignore: float | None) -> Tensor:
    """Labels with a missing one where `ignore` stands: NaN, or -100 among whole numbers, which become int64."""
    if ignore is None:
        return target
    if target.is_floating_point():
        return torch.where(target == ignore, torch.nan, target)
    return torch.where(target == ignore, IGNORE, target.to(torch.int64))


@dataclass(frozen=True)
class Splits:
    """The three splits; everything fitted to data (scaling, vocabularies) is fitted on `train` only."""

    train: Examples
    validation: Examples
    test: Examples

    def items(self) -> Sequence[tuple[str, Examples]]:
        """The splits by name."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]

    def to(self, device: torch.device | str) -> Splits:
        """The same splits on another device."""
        return Splits(*(split.to(device) for _, split in self.items()))

    def marked(self, tasks: Sequence[Task]) -> Splits:
        """The same splits, where labels that a task ignores are missing ones."""
        ignored = {task.name: task.ignore for task in tasks if task.ignore is not None}
        return Splits(*(split.marked(ignored) for _, split in self.items()))


class Benchmark(ABC):
    """A multi-task problem. Subclass it, or give any class with `name`, `tasks`, `load` and `model`.

    Class attributes:
        name: as shown in results.
        tasks: in the order of the losses.
        trunk: spec of the default trunk.
        architecture: spec of how the tasks share it by default.
        recipe: training settings that differ from the trainer's, such as `{"epochs": 30}`.
        install: the command that brings the data, shown when its package is absent.
    """

    name: ClassVar[str]
    tasks: Sequence[Task]
    trunk: str = "mlp"
    architecture: str = "hard-sharing"
    recipe: ClassVar[Mapping[str, Any]] = {}
    install: ClassVar[str] = ""

    def files(self) -> Sequence[Path]:
        """The files that the data is read from, if it is not generated; raises `MissingData` when they are not here."""
        return ()

    @abstractmethod
    def load(self) -> Splits:
        """The data; raises `MissingData` when its package is absent. Needs no network."""

    def model(self, tasks: Sequence[Task], inputs: Any) -> nn.Module:
        """A fresh model for the given tasks, all or one: a module from inputs to a dict of predictions by task.

        It has a method `shared_parameters()`. `inputs` are a few training examples, for their shape: a tensor, or the
        nesting of tensors that the splits have.
        """
        return make_model(self.architecture, self.trunk, {task.name: task.outputs for task in tasks}, inputs)


class MissingData(Exception):
    """The package that holds a benchmark's data is not installed; the message has the command that installs it."""
