"""What a benchmark is: tasks, data splits and a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.losses import TaskLoss
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
    """

    name: str
    loss: TaskLoss
    metrics: tuple[Metric, ...]
    outputs: int = 1


@dataclass(frozen=True)
class Split:
    """Examples: inputs (N, ...) and labels (N, ...) for each task; missing labels are NaN or -100, one by one."""

    inputs: Tensor
    targets: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Tensor | slice) -> Split:
        """The examples at `index`."""
        return Split(self.inputs[index], {task: target[index] for task, target in self.targets.items()})

    def to(self, device: torch.device | str) -> Split:
        """The same examples on another device."""
        return Split(self.inputs.to(device), {task: target.to(device) for task, target in self.targets.items()})


@dataclass(frozen=True)
class Splits:
    """The three splits; everything fitted to data (scaling, vocabularies) is fitted on `train` only."""

    train: Split
    validation: Split
    test: Split

    def items(self) -> Sequence[tuple[str, Split]]:
        """The splits by name."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]

    def to(self, device: torch.device | str) -> Splits:
        """The same splits on another device."""
        return Splits(*(split.to(device) for _, split in self.items()))


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

    @abstractmethod
    def load(self) -> Splits:
        """The data; raises `MissingData` when its package is absent. Needs no network."""

    def model(self, tasks: Sequence[Task], inputs: Tensor) -> nn.Module:
        """A fresh model for the given tasks, all or one: a module from inputs to a dict of predictions by task.

        It has a method `shared_parameters()`. `inputs` are a few training examples, for their shape.
        """
        return make_model(self.architecture, self.trunk, {task.name: task.outputs for task in tasks}, inputs)


class MissingData(Exception):
    """The package that holds a benchmark's data is not installed; the message has the command that installs it."""
