"""What all members of a cohort stand on: the benchmark, its data, and who decides when they are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from mtl.benchmarks.benchmark import Benchmark, Examples, Splits, Task
from mtl.benchmarks.losses import fitted_tasks
from mtl.benchmarks.own import OwnExamples
from mtl.losses.labels import known
from mtl.train.processes import Processes
from mtl.train.references import references
from mtl.train.tally import Metrics

#: Called with a member's number, its step and the values of a new point of its curves, by name.
Observe = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Ground:
    """What all members of a cohort have in common.

    Attributes:
        benchmark: gives the model.
        splits: the data, on the device.
        tasks: with the benchmark's own losses, and in them what the training labels decide, such as class weights.
        device: where to train.
        reference: by task and metric the value without skill, that the selection refers to.
        missing: whether the training split lacks labels, so that a task can be absent from a batch.
        told: whoever drives the cohort decides when members are evaluated and which evaluation is a member's best.
        observe: told of each new point of the curves; None for nobody.
        processes: that train each run together, each on its part of every batch; None for this one alone.
    """

    benchmark: Benchmark
    splits: Splits
    tasks: Sequence[Task]
    device: torch.device
    reference: Metrics = field(repr=False)
    missing: bool = False
    told: bool = False
    observe: Observe | None = None
    processes: Processes | None = None

    @property
    def own(self) -> bool:
        """Whether tasks have examples of their own."""
        return isinstance(self.splits.train, OwnExamples)

    @classmethod
    def of(
        cls,
        benchmark: Benchmark,
        splits: Splits,
        tasks: Sequence[Task],
        device: torch.device,
        *,
        told: bool = False,
        observe: Observe | None = None,
        processes: Processes | None = None,
    ) -> Ground:
        """With the data on the device, and with what follows from it."""
        splits = splits.only(tasks).to(device)
        tasks = fitted_tasks(tasks, splits.train)
        reference, _ = references(tasks, splits.train, splits.validation)
        missing = _labels_missing(splits.train, tasks)
        return cls(benchmark, splits, tasks, device, reference, missing, told, observe, processes)


def _labels_missing(split: Examples, tasks: Sequence[Task]) -> bool:
    return split.sampled or any(not bool(known(split.targets[task.name]).all()) for task in tasks)
