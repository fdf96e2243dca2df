"""The examples that many members draw batches of, each in the order of its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split
from mtl.benchmarks.tree import mapped
from mtl.train.batches import Order, requests


class Source:
    """Batches (N, B, ...) of N members, of examples that are drawn together.

    Args:
        examples: on the device.
        size: examples a batch.
        seeds: of the members.
        stream: of `mtl.train.batches.Order`.
        task: whose own examples they are; empty where tasks share them.
    """

    def __init__(self, examples: Examples, size: int, seeds: Sequence[int], stream: int, task: str) -> None:
        self._examples = examples
        self._every = [Order(examples, size, seed, stream, task) for seed in seeds]
        self._per_epoch, self._size = self._every[0].per_epoch, self._every[0].size
        self._epochs = [-1] * len(seeds)
        self._loader = examples.loader(partial(requests, self._every))
        rows = len(seeds) if self._loader is None else 0
        self._orders = torch.empty(rows, len(examples), dtype=torch.int64, device=examples.device)

    def take(self, steps: Sequence[int]) -> Split:
        """Each member's batch of its step."""
        return self._examples.take(self._index(steps)) if self._loader is None else self._loaded(steps)

    def close(self) -> None:
        """End processes that read ahead; they begin again where a batch is asked for."""
        if self._loader is not None:
            self._loader.close()

    def _loaded(self, steps: Sequence[int]) -> Split:
        """Batches that a data set reads; one that several members share is read once."""
        assert self._loader is not None
        inputs, targets = self._loader.read(steps)
        every = [order.entropy(step) for order, step in zip(self._every, steps, strict=True)]
        distinct = [*dict.fromkeys(every)]
        if len(distinct) == 1:
            inputs, targets = mapped(lambda leaf: leaf.expand(len(every), *leaf.shape[1:]), (inputs, targets))
        elif len(distinct) < len(every):
            rows = torch.tensor([distinct.index(each) for each in every], device=self._examples.device)
            inputs, targets = mapped(lambda leaf: leaf[rows], (inputs, targets))
        return Split(inputs, targets)

    def _index(self, steps: Sequence[int]) -> Tensor:
        places = []
        for member, step in enumerate(steps):
            epoch, position = divmod(step, self._per_epoch)
            if epoch != self._epochs[member]:
                self._orders[member] = self._every[member].epoch(epoch)
                self._epochs[member] = epoch
            places.append(position * self._size)
        if len(set(places)) == 1:
            return self._orders[:, places[0] : places[0] + self._size]
        columns = torch.tensor(places, device=self._orders.device)[:, None]
        return self._orders.gather(1, columns + torch.arange(self._size, device=self._orders.device))
