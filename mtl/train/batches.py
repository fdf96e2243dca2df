"""Batches as a pure function of seed and step, so that a resumed run sees the data of an uninterrupted one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split
from mtl.benchmarks.reading import Request, derived_seed

__all__ = ["Batches", "Order", "derived_seed", "requests"]

_READ = 6  # tells the seed under which a batch is read from those of orders and augmentation


class Order:
    """In which order a run sees the examples of a split: shuffled anew in each epoch.

    A last batch that would be short is left out, unless it is the only one.

    Args:
        split: the examples.
        size: examples a batch.
        seed: of the shuffles, and of what a data set draws.
        stream: tells independent orders under one seed apart (0 training, 1 alignment, 2 further training batches).
    """

    def __init__(self, split: Examples, size: int, seed: int, stream: int) -> None:
        self.count, self.size = len(split), min(size, len(split))
        self.per_epoch = self.count // self.size
        self._entropy = (0 if split.shared_batches else seed, stream)
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


class Batches:
    """The batches of a split, by step.

    Args:
        split: with the device where the batches are wanted.
        size: examples a batch.
        seed: of the shuffles, and of what a data set draws.
        stream: see `Order`.
    """

    def __init__(self, split: Examples, size: int, seed: int, stream: int = 0) -> None:
        self.split, self._order = split, Order(split, size, seed, stream)
        self.size, self.per_epoch = self._order.size, self._order.per_epoch
        self._loader = split.loader(partial(requests, [self._order]))

    def __getitem__(self, step: int) -> Split:
        if self._loader is None:
            return self.split.take(self._order.batch(step, self.split.device))
        return Split(*self._loader.read([step])).row(0)

    def close(self) -> None:
        """End processes that read ahead; they begin again where a batch is asked for."""
        if self._loader is not None:
            self._loader.close()
