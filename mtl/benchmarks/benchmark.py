"""What a benchmark is: tasks, data splits and a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.reading import Collate, Reading
from mtl.benchmarks.split import Examples, Split
from mtl.benchmarks.stored import Stored
from mtl.losses import TaskLoss
from mtl.metrics import Metric
from mtl.models import begin_at, make_model

#: What labels of pixels may be to those who change pictures.
GEOMETRIES = ("depth", "inverse-depth", "direction")

#: What a split may be given as: examples of all tasks, or for each task its own.
Given = Examples | Dataset[Any] | Mapping[str, Examples | Dataset[Any]]

__all__ = ["Benchmark", "Examples", "MissingData", "Split", "Splits", "Task"]


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
        geometry: what the labels of a pixel are, where a change of the picture (`--augment`) changes them too: `depth`,
            a distance, `inverse-depth`, or `direction`, three numbers of which the first is along the picture's rows;
            empty for anything else.
        classes: names of the classes in their order, or of no and yes, for messages; empty where they have none.
        start: what a new model predicts before its inputs tell it anything; it is added to the bias of the task's head
            in a model of `Benchmark.model`. Counts begin at the logarithm of their mean.
        own_loss: the benchmark's own loss, where `loss` is another that a user chose; None where `loss` is it.
    """

    name: str
    loss: TaskLoss
    metrics: tuple[Metric, ...]
    outputs: int = 1
    ignore: float | None = None
    geometry: str = ""
    classes: tuple[str, ...] = ()
    start: float = 0.0
    own_loss: TaskLoss | None = None

    @property
    def yardstick(self) -> TaskLoss:
        """The loss whose best constant prediction the skill refers to: the benchmark's own, whichever one trains."""
        return self.loss if self.own_loss is None else self.own_loss


@dataclass(frozen=True, init=False)
class Splits:
    """The three splits; everything fitted to data (scaling, vocabularies) is fitted on `train` only.

    Args:
        train: a `Split`, or a map-style `torch.utils.data.Dataset` of pairs (inputs, targets by task). Where tasks have
            data of their own, a dict with one of these for each task; the targets may then be the labels alone.
        validation: the same.
        test: the same.
        collate: makes one batch of a list of examples of a data set; None for PyTorch's.
        workers: processes that read a data set ahead of time; 0 reads it in the process that trains.
        shared_batches: all runs of one data set see the same batches, whatever their seeds, so that runs that are
            trained together read each example once rather than once each.

    What a data set draws (`torch`, `numpy.random` and `random`, on the CPU) is seeded by run and step, so that a run
    can be repeated and go on where it stopped. Labels are read once before training, for what a prediction without
    inputs reaches; where the data set has a method `target(index)` that gives the labels of an example alone, no inputs
    are read for that. Labels of more than 256 MiB are not held: a seeded sample of them stands for all.
    """

    train: Examples
    validation: Examples
    test: Examples

    @overload
    def __init__(self, train: Given, validation: Given, test: Given) -> None: ...

    @overload
    def __init__(
        self,
        train: Given,
        validation: Given,
        test: Given,
        *,
        collate: Collate | None = None,
        workers: int = 0,
        shared_batches: bool = False,
    ) -> None: ...

    def __init__(
        self,
        train: Given,
        validation: Given,
        test: Given,
        *,
        collate: Collate | None = None,
        workers: int = 0,
        shared_batches: bool = False,
    ) -> None:
        for name, split in (("train", train), ("validation", validation), ("test", test)):
            object.__setattr__(self, name, _examples(split, Reading(None, name, collate), workers, shared_batches))

    def items(self) -> Sequence[tuple[str, Examples]]:
        """The splits by name."""
        return [("train", self.train), ("validation", self.validation), ("test", self.test)]

    def parts(self) -> Sequence[tuple[str, Examples]]:
        """The splits by name; where tasks have their own examples, those of each: `train of amazon`."""
        return [
            (f"{name} of {task}" if task else name, part)
            for name, split in self.items()
            for task, part in (split.parts.items() if isinstance(split, OwnExamples) else [("", split)])
        ]

    def only(self, tasks: Sequence[Task]) -> Splits:
        """What is needed for some tasks: all, unless tasks have examples of their own."""
        names = [task.name for task in tasks]
        return Splits(*(split.only(names) for _, split in self.items()))

    def to(self, device: torch.device | str) -> Splits:
        """The same splits with batches on another device."""
        return Splits(*(split.to(device) for _, split in self.items()))

    def marked(self, tasks: Sequence[Task]) -> Splits:
        """The same splits, where labels that a task ignores are missing ones."""
        ignored = {task.name: task.ignore for task in tasks if task.ignore is not None}
        return Splits(*(split.marked(ignored) for _, split in self.items()))


def _examples(given: Any, reading: Reading, workers: int, shared_batches: bool) -> Any:
    """A split as `Examples`; what cannot be one stays as it is, for the checks to name."""
    if isinstance(given, Mapping):
        parts = {
            task: _examples(part, replace(reading, task=task), workers, shared_batches) for task, part in given.items()
        }
        whole = parts and all(isinstance(part, Split | Stored) for part in parts.values())
        return OwnExamples(parts) if whole else given
    if isinstance(given, Dataset) and not isinstance(given, IterableDataset):
        return Stored.of(replace(reading, dataset=given), workers, shared_batches=shared_batches)
    if reading.task and isinstance(given, Split) and isinstance(given.targets, Tensor):
        return Split(given.inputs, {reading.task: given.targets})
    return given


class Benchmark(ABC):
    """A multi-task problem. Subclass it, or give any class with `name`, `tasks`, `load` and `model`.

    Class attributes:
        name: as shown in results.
        tasks: in the order of the losses.
        trunk: spec of the default trunk.
        architecture: spec of how the tasks share it by default.
        recipe: training settings that differ from the trainer's, such as `{"epochs": 30}`.
        install: the command that brings the data, shown when its package is absent.
        about: what a user should know of how the data was read, a line each; said before training.
    """

    name: ClassVar[str]
    tasks: Sequence[Task]
    trunk: str = "mlp"
    architecture: str = "hard-sharing"
    recipe: ClassVar[Mapping[str, Any]] = {}
    install: ClassVar[str] = ""
    about: Sequence[str] = ()

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
        model = make_model(self.architecture, self.trunk, {task.name: task.outputs for task in tasks}, inputs)
        for task in tasks:
            if task.start:
                begin_at(model.head(task.name), task.start)
        return model


class MissingData(Exception):
    """The package that holds a benchmark's data is not installed; the message has the command that installs it."""
