"""Batches as a pure function of seed and step, so that a resumed run sees the data of an uninterrupted one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.reading import Request, derived_seed
from mtl.train.settings import Settings

__all__ = ["Batches", "Order", "check_batches", "derived_seed", "micro_batches", "pools", "requests", "steps_per_epoch"]

_READ = 6  # tells the seed under which a batch is read from those of orders and augmentation


def steps_per_epoch(split: Examples, size: int) -> int:
    """Optimizer steps from one pass over a split to the next; where tasks have their own examples, over the most."""
    count = split.most if isinstance(split, OwnExamples) else len(split)
    return count // min(size, count)


def pools(split: Examples, size: int, sampling: str = "cycle") -> dict[str, tuple[Examples, int]]:
    """What the parts of a batch are drawn from, and how many of each.

    Args:
        split: the examples.
        size: examples a batch, as asked for.
        sampling: where tasks have their own examples: `cycle` draws `size` of each task, and those who have fewer
            begin anew more often; `proportional` draws `size` of the task that has the most, and of the others so much
            less as they have fewer, so that all are gone through about equally often.

    Returns:
        By task the examples and their number in a batch, at most as many as there are; by "" where tasks share them.
    """
    if not isinstance(split, OwnExamples):
        return {"": (split, min(size, len(split)))}
    found = {}
    for task, part in split.parts.items():
        share = len(part) / split.most if sampling == "proportional" else 1
        found[task] = part, max(1, min(len(part), round(min(size, split.most) * share)))
    return found


def micro_batches(asked: int, sizes: Mapping[str, int]) -> int:
    """Into how many micro-batches a batch is cut.

    Args:
        asked: for so many.
        sizes: of the batch; of each task's where tasks have their own examples.

    Raises:
        ValueError: the micro-batches of a task would be unequal, and could not be weighted by one number for all.
    """
    for task, size in sizes.items():
        if task and size % asked:
            raise ValueError(f"accumulate={asked}: the batch of task {task!r} has {size} examples, no multiple of it")
    return min(asked, *sizes.values())


def check_batches(where: str, split: Examples, settings: Settings) -> None:
    """Raise `ValueError` for settings of batches that the examples of a training split do not allow."""
    if settings.sampling != "cycle" and not isinstance(split, OwnExamples):
        raise ValueError(f"{where}: sampling={settings.sampling}: its tasks have no examples of their own, all share")
    sizes = {task: size for task, (_, size) in pools(split, settings.batch_size, settings.sampling).items()}
    try:
        micro_batches(settings.accumulate, sizes)
    except ValueError as error:
        raise ValueError(f"{where}, train split: {error}") from error


def stream_of(task: str) -> tuple[int, ...]:
    """What a task's own seeds have in addition, whatever tasks there are beside it; nothing where tasks share."""
    return (zlib.crc32(task.encode()),) if task else ()


class Order:
    """In which order a run sees the examples of a split: shuffled anew in each epoch.

    A last batch that would be short is left out, unless it is the only one.

    Args:
        split: the examples.
        size: examples a batch.
        seed: of the shuffles, and of what a data set draws.
        stream: tells independent orders under one seed apart (0 training, 1 alignment, 2 further training batches).
        task: whose own examples they are; empty where tasks share them.
    """

    def __init__(self, split: Examples, size: int, seed: int, stream: int, task: str = "") -> None:
        self.count, self.size = len(split), min(size, len(split))
        self.per_epoch = self.count // self.size
        self._entropy = (0 if split.shared_batches else seed, stream, *stream_of(task))
        self._epoch, self._order = -1, torch.empty(0)

    def epoch(self, number: int) -> Tensor:
        """The order of all examples in an epoch."""
        generator = torch.Generator().manual_seed(derived_seed(*self._entropy, number))
        return torch.randperm(self.count, generator=generator)

    def batch(self, step: int, device: torch.device | str = "cpu") -> Tensor:
        """The numbers of the examples of a step's batch, on a device that is always the same."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.epoch(epoch).to(device)
        return self._order[position * self.size : (position + 1) * self.size]

    def entropy(self, step: int) -> tuple[int, ...]:
        """Of the seed under which the batch of a step is read; of one data set, equal for equal batches."""
        return (*self._entropy, step, _READ)


def requests(orders: Sequence[Order], steps: Sequence[int]) -> list[Request]:
    """What a data set is asked for where each order is at a step of its own; a batch that several share once."""
    asked = {order.entropy(step): (order, step) for order, step in zip(orders, steps, strict=True)}
    return [Request(order.batch(step).tolist(), entropy) for entropy, (order, step) in asked.items()]


class Division(Protocol):
    """How several processes divide a batch that is read from a disk."""

    @property
    def rank(self) -> int:
        """Of this process."""

    @property
    def own(self) -> Tensor:
        """The places (n,) in a batch of the examples that this process reads."""

    def spread(self, batch: Split) -> Split:
        """The whole batch, where `batch` is this process's part."""


def _part(order: Order, division: Division, steps: Sequence[int]) -> list[Request]:
    """What a data set is asked for by one of several processes; each part has a seed of its own."""
    (step,) = steps
    entropy = order.entropy(step)
    own = order.batch(step)[division.own]
    return [Request(own.tolist(), (*entropy, division.rank) if division.rank else entropy)]


class Batches:
    """The batches of a split, by step.

    Args:
        split: with the device where the batches are wanted.
        size: examples a batch; where tasks have their own examples, of each task or of one, see `pools`.
        seed: of the shuffles, and of what a data set draws.
        stream: see `Order`.
        sampling: see `pools`.
        divide: from examples of a batch to how several processes divide those that are read from a disk: each has
            labels of all, inputs of its own part, and zeros in place of the others. None reads whole batches.
    """

    def __init__(
        self,
        split: Examples,
        size: int,
        seed: int,
        stream: int = 0,
        sampling: str = "cycle",
        divide: Callable[[int], Division] | None = None,
    ) -> None:
        self.split, self.per_epoch = split, steps_per_epoch(split, size)
        drawn = pools(split, size, sampling)
        self._pools = {
            task: _Pool(part, size, seed, stream, task, None if divide is None else divide(size))
            for task, (part, size) in drawn.items()
        }
        #: Examples of a batch, of each task; by "" where tasks share them.
        self.sizes: Mapping[str, int] = {task: size for task, (_, size) in drawn.items()}

    def __getitem__(self, step: int) -> Split | OwnExamples:
        drawn = {task: pool.batch(step) for task, pool in self._pools.items()}
        return OwnExamples(drawn) if isinstance(self.split, OwnExamples) else drawn[""]

    def close(self) -> None:
        """End processes that read ahead; they begin again where a batch is asked for."""
        for pool in self._pools.values():
            pool.close()


class _Pool:
    """The batches of examples that are drawn together."""

    def __init__(
        self, examples: Examples, size: int, seed: int, stream: int, task: str, division: Division | None
    ) -> None:
        self._examples, self._order, self._division = examples, Order(examples, size, seed, stream, task), division
        plan = partial(requests, [self._order]) if division is None else partial(_part, self._order, division)
        self._loader = examples.loader(plan)

    def batch(self, step: int) -> Split:
        if self._loader is None:
            return self._examples.take(self._order.batch(step, self._examples.device))
        batch = Split(*self._loader.read([step])).row(0)
        return batch if self._division is None else self._division.spread(batch)

    def close(self) -> None:
        if self._loader is not None:
            self._loader.close()
