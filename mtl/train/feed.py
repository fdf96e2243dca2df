"""The batches of many members: each member's are those that its seed gives a run by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split
from mtl.benchmarks.tree import floating_dtype, mapped, stacked
from mtl.losses.labels import known
from mtl.population.strategies import differing
from mtl.train.augment import augment
from mtl.train.batches import Order, requests
from mtl.train.job import Job


class Feed:
    """Batches of one split for members of one structure.

    Args:
        split: on the device.
        members: who gets them.
        stream: of `mtl.train.batches.Order`.
        augmented: whether noise and mixup apply, as they do to the batches that parameters are trained on.
        missing: whether the training split lacks labels, so that a task can be absent from a batch.
    """

    def __init__(self, split: Examples, members: Sequence[Job], stream: int, *, augmented: bool, missing: bool) -> None:
        self.split, self.members, self.missing = split, members, missing
        self._every = [Order(split, each.settings.batch_size, each.member.seed, stream) for each in members]
        self.per_epoch, self._size = self._every[0].per_epoch, self._every[0].size
        self._epochs = [-1] * len(members)
        self._loader = split.loader(partial(requests, self._every))
        rows = len(members) if self._loader is None else 0
        self._orders = torch.empty(rows, len(split), dtype=torch.int64, device=split.device)
        self._augments = augmented and any(each.settings.noise or each.settings.mixup for each in members)
        self._mixes = augmented and any(each.settings.mixup for each in members)
        self._dtype = floating_dtype(split.first(1)) or torch.get_default_dtype()
        self._parameters = loss_parameters(members, self._dtype, split.device)

    def take(self, steps: Sequence[int]) -> dict[str, Any]:
        """Each member's batch of its step: tensors (N, B, ...), with what else its losses depend on."""
        drawn = self.split.take(self._index(steps)) if self._loader is None else self._loaded(steps)
        batch: dict[str, Any] = {"inputs": drawn.inputs, "targets": drawn.targets, "parameters": self._parameters}
        if self._augments:
            batch |= self._augmented(drawn, steps)
        if self.missing:
            tasks = self.members[0].tasks
            labelled = [known(drawn.targets[task.name]).flatten(1).any(1) for task in tasks]
            batch["absent"] = ~torch.stack(labelled, 1)
        return batch

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
            rows = torch.tensor([distinct.index(each) for each in every], device=self.split.device)
            inputs, targets = mapped(lambda leaf: leaf[rows], (inputs, targets))
        return Split(inputs, targets)

    def _index(self, steps: Sequence[int]) -> Tensor:
        places = []
        for member, step in enumerate(steps):
            epoch, position = divmod(step, self.per_epoch)
            if epoch != self._epochs[member]:
                self._orders[member] = self._every[member].epoch(epoch)
                self._epochs[member] = epoch
            places.append(position * self._size)
        if len(set(places)) == 1:
            return self._orders[:, places[0] : places[0] + self._size]
        columns = torch.tensor(places, device=self._orders.device)[:, None]
        return self._orders.gather(1, columns + torch.arange(self._size, device=self._orders.device))

    def _augmented(self, drawn: Split, steps: Sequence[int]) -> dict[str, Any]:
        made = [
            augment(drawn.row(row), each.settings.noise, each.settings.mixup, each.member.seed, step)
            for row, (each, step) in enumerate(zip(self.members, steps, strict=True))
        ]
        found: dict[str, Any] = {"inputs": stacked([each.batch.inputs for each in made])}
        if self._mixes:
            partners = [each.partner or each.batch for each in made]
            found["partner"] = {
                name: torch.stack([partner.targets[name] for partner in partners]) for name in drawn.targets
            }
            shares = [each.share for each in made]
            found["share"] = torch.tensor(shares, dtype=self._dtype, device=self.split.device)
        return found


def loss_parameters(members: Sequence[Job], dtype: torch.dtype, device: torch.device) -> dict[str, dict[str, Tensor]]:
    """The parameters in which the members' losses differ, (N,) each, by task."""
    found = {}
    for task, *others in zip(*(each.tasks for each in members), strict=True):
        if any(other.loss is not task.loss for other in others):
            like = torch.zeros((), dtype=dtype, device=device)
            found[task.name] = differing([task.loss, *(other.loss for other in others)], like)
    return found
