"""Examples that are a task's own: tasks share a model, and no inputs (Office-31, several domains)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.split import Examples, Split


@dataclass(frozen=True)
class OwnExamples(Examples):
    """The examples of each task, of which tasks may have unlike many; a batch is one of each task.

    Args:
        parts: by task.
        most: examples of the task that has the most of a whole split, by which epochs are counted.
    """

    parts: Mapping[str, Examples]
    most: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "most", self.most or max((len(part) for part in self.parts.values()), default=0))

    def of_task(self, task: str) -> Examples:
        """The examples of one task."""
        return self.parts[task]

    def only(self, tasks: Sequence[str]) -> OwnExamples:
        """What these tasks have; epochs stay those of the whole."""
        return OwnExamples({task: self.parts[task] for task in tasks}, self.most)

    @property
    def inputs(self) -> dict[str, Any]:
        """Of a batch, the inputs of each task."""
        return {task: part.inputs for task, part in self.splits().items()}

    @property
    def targets(self) -> Mapping[str, Tensor]:  # type: ignore[override]
        """The labels of each task; as many as it has examples."""
        return _Labels(self.parts)

    @property
    def shared_batches(self) -> bool:  # type: ignore[override]
        """All runs see the same batches, whatever their seeds."""
        return any(part.shared_batches for part in self.parts.values())

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return next(iter(self.parts.values())).device

    @property
    def sampled(self) -> bool:
        """Whether some task's `targets` are those of a sample of its examples."""
        return any(part.sampled for part in self.parts.values())

    def __len__(self) -> int:
        """The examples of all tasks together."""
        return sum(map(len, self.parts.values()))

    def take(self, index: Tensor | slice) -> Split:
        """The examples at `index` of the first task, for their form."""
        return next(iter(self.parts.values())).take(index)

    def row(self, number: int) -> OwnExamples:
        """Of many batches (N, B, ...) one."""
        return OwnExamples({task: part.row(number) for task, part in self.splits().items()})

    def chunks(self, size: int) -> Iterator[Split]:  # noqa: ARG002
        """Each task has its own: `of_task(task).chunks(size)`."""
        raise TypeError("tasks that have examples of their own are gone through one by one: of_task(task).chunks(size)")

    def to(self, device: torch.device | str) -> OwnExamples:
        """The same examples with batches on another device."""
        return replace(self, parts={task: part.to(device) for task, part in self.parts.items()})

    def marked(self, ignored: Mapping[str, float]) -> OwnExamples:
        """The same examples, where these labels, by task, are missing ones: NaN or -100."""
        parts = {
            task: part.marked({task: ignored[task]} if task in ignored else {}) for task, part in self.parts.items()
        }
        return replace(self, parts=parts)

    def fingerprint(self) -> Any:
        """What tells the examples of each task apart from others."""
        return {task: part.fingerprint() for task, part in sorted(self.parts.items())}

    def splits(self) -> dict[str, Split]:
        """The parts of a batch, which are in memory."""
        return {task: part for task, part in self.parts.items() if isinstance(part, Split)}


@dataclass(frozen=True)
class _Labels(Mapping[str, Tensor]):
    """The labels of each task, read when they are asked for."""

    parts: Mapping[str, Examples]

    def __getitem__(self, task: str) -> Tensor:
        return self.parts[task].targets[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)
