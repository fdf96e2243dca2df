"""Examples that a data set reads, as from a disk: never all of them are held."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.benchmarks import tree
from mtl.benchmarks.reading import Loader, Reading, Request, read_all
from mtl.benchmarks.split import Examples, RequestsAt, Split

_BLOCK = 64  # examples that are read at once where all are, so that a seed belongs to the same ones always
_HELD = 2**28  # bytes of labels that are held; of more a sample is
_SHOWN = 16  # examples by which a data set is known
_SAMPLE, _WHOLE = 4, 5  # streams of seeds beside those of batches and augmentation


class Labels(Mapping[str, Tensor]):
    """The labels of a data set, read when they are first asked for: all, or those of a seeded sample.

    Args:
        reading: of the data set.
        workers: processes.
    """

    def __init__(self, reading: Reading, workers: int) -> None:
        self._reading, self._workers = dataclasses.replace(reading, targets_only=True), workers
        self.examples = len(reading)

    def __getitem__(self, task: str) -> Tensor:
        return self._read[1][task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read[1])

    def __len__(self) -> int:
        return len(self._read[1])

    @property
    def index(self) -> Tensor:
        """The numbers of the examples whose labels these are."""
        return self._read[0]

    def part(self, reading: Reading, index: Tensor) -> Labels:
        """Those of the examples at `index` (n,), which `reading` reads; not read again where all were."""
        found = Labels(reading, self._workers)
        if "_read" in vars(self) and len(self.index) == self.examples:
            held = {task: labels[index] for task, labels in self._read[1].items()}
            vars(found)["_read"] = torch.arange(len(index)), held
        return found

    @cached_property
    def _read(self) -> tuple[Tensor, dict[str, Tensor]]:
        first = self._of(torch.arange(min(2, self.examples)))
        size = sum(label.numel() * label.element_size() for label in first.values()) / min(2, self.examples)
        index = torch.arange(self.examples)
        if size * self.examples > _HELD:
            generator = torch.Generator().manual_seed(_SAMPLE)
            index = torch.randperm(self.examples, generator=generator)[: max(2, int(_HELD / size))].sort().values
        return index, self._of(index)

    def _of(self, index: Tensor) -> dict[str, Tensor]:
        found: dict[str, tree.Gathered] = {}
        for _, targets in _whole(read_all(self._reading, _blocks(index), self._workers)):
            for name, labels in targets.items():
                found.setdefault(name, tree.Gathered(len(index))).add(labels)
        return {name: labels.whole() for name, labels in found.items()}


def _blocks(index: Tensor) -> Iterator[list[Request]]:
    """Requests of a block of examples each."""
    for block in index.split(_BLOCK):
        yield [Request(block.tolist(), (_WHOLE, int(block[0])))]


def _whole(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches of one request each, without the axis of requests."""
    for batch in batches:
        yield tree.mapped(lambda leaf: leaf[0], batch)


@dataclasses.dataclass(frozen=True)
class Stored(Examples):
    """Examples that a map-style data set reads.

    Args:
        reading: of the data set.
        workers: processes that read it ahead of time; 0 reads it in this process.
        targets: labels of each task, on the CPU; read when they are first asked for.
        place: where batches go.
        shared_batches: all runs see the same batches, whatever their seeds.
    """

    reading: Reading
    workers: int
    targets: Labels
    place: torch.device
    shared_batches: bool = False

    @classmethod
    def of(cls, reading: Reading, workers: int, *, shared_batches: bool) -> Stored:
        """The examples of a reading, of which no label has been read yet."""
        return cls(reading, workers, Labels(reading, workers), torch.device("cpu"), shared_batches)

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self.place

    def __len__(self) -> int:
        return len(self.reading)

    @property
    def sampled(self) -> bool:
        """Whether `targets` are those of a sample of the examples."""
        return len(self.targets.index) < len(self)

    def take(self, index: Tensor | slice) -> Split:
        """The examples at `index`, (n,) or a slice, read in this process."""
        numbers = torch.arange(len(self))[index].tolist()
        (batch,) = _whole(read_all(self.reading, [[Request(numbers, (_WHOLE, *numbers[:1]))]], 0))
        return self._split(batch)

    def labelled(self, rows: Tensor) -> Split:
        """The examples whose labels stand at `rows` of `targets`."""
        return self.take(self.targets.index[rows])

    def to(self, device: torch.device | str) -> Stored:
        """The same examples with batches on another device."""
        return dataclasses.replace(self, place=torch.device(device))

    def marked(self, ignored: Mapping[str, float]) -> Stored:
        """The same examples, where these labels, by task, are missing ones: NaN or -100."""
        if not ignored:
            return self
        reading = dataclasses.replace(self.reading, ignored=ignored)
        return dataclasses.replace(self, reading=reading, targets=Labels(reading, self.workers))

    def fingerprint(self) -> Any:
        """What the data set is, how many examples it has, and a seeded sample of them."""
        kind = type(self.reading.dataset)
        shown = sorted(torch.randperm(len(self), generator=torch.Generator().manual_seed(_SAMPLE))[:_SHOWN].tolist())
        plan = [[Request([number], (_WHOLE, number))] for number in shown]
        return f"{kind.__module__}.{kind.__qualname__}", len(self), [*_whole(read_all(self.reading, plan, 0))]

    def chunks(self, size: int) -> Iterator[Split]:
        """All examples in their order, so many at a time or fewer, read ahead by the workers."""
        plan = _blocks(torch.arange(len(self)))
        for batch in _whole(read_all(self.reading, plan, self.workers, pin=self.device.type == "cuda")):
            block = self._split(batch)
            for start in range(0, len(block), size):
                yield block.take(slice(start, start + size))

    def loader(self, plan: RequestsAt) -> Loader:
        """Reads batches by a plan."""
        return Loader(self.reading, plan, self.workers, self.device)

    def _split(self, batch: Any) -> Split:
        inputs, targets = pytree.tree_map_only(Tensor, lambda leaf: leaf.to(self.device), batch)
        return Split(inputs, targets)


def sample_of(split: Examples) -> str:
    """How much of a split its digest is of; empty where it is of all."""
    return f" (a sample of {min(_SHOWN, len(split))} of {len(split)} examples)" if isinstance(split, Stored) else ""
