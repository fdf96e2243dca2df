"""The batches of many members: each member's are those that its seed gives a run by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples
from mtl.benchmarks.tree import floating_dtype, stacked
from mtl.losses.labels import known
from mtl.population.strategies import differing
from mtl.train.augment import augment
from mtl.train.batches import Batches
from mtl.train.job import Job


class Feed:
    """Batches of one split for members of one structure.

    Args:
        split: on the device.
        members: who gets them.
        stream: of `mtl.train.batches.Batches`.
        augmented: whether noise and mixup apply, as they do to the batches that parameters are trained on.
        missing: whether the training split lacks labels, so that a task can be absent from a batch.
    """

    def __init__(self, split: Examples, members: Sequence[Job], stream: int, *, augmented: bool, missing: bool) -> None:
        self.split, self.members, self.missing = split, members, missing
        self.batches = [Batches(split, each.settings.batch_size, each.member.seed, stream=stream) for each in members]
        self.per_epoch = self.batches[0].per_epoch
        self._size = self.batches[0].size
        self._epochs = [-1] * len(members)
        self._orders = torch.empty(len(members), len(split), dtype=torch.int64, device=split.device)
        self._augments = augmented and any(each.settings.noise or each.settings.mixup for each in members)
        self._mixes = augmented and any(each.settings.mixup for each in members)
        self._dtype = floating_dtype(split.first(1)) or torch.get_default_dtype()
        self._parameters = loss_parameters(members, self._dtype, split.device)

    def take(self, steps: Sequence[int]) -> dict[str, Any]:
        """Each member's batch of its step: tensors (N, B, ...), with what else its losses depend on."""
        index = self._index(steps)
        drawn = self.split.take(index)
        batch: dict[str, Any] = {"inputs": drawn.inputs, "targets": drawn.targets, "parameters": self._parameters}
        if self._augments:
            batch |= self._augmented(index, steps)
        if self.missing:
            tasks = self.members[0].tasks
            labelled = [known(drawn.targets[task.name]).flatten(1).any(1) for task in tasks]
            batch["absent"] = ~torch.stack(labelled, 1)
        return batch

    def _index(self, steps: Sequence[int]) -> Tensor:
        places = []
        for member, step in enumerate(steps):
            epoch, position = divmod(step, self.per_epoch)
            if epoch != self._epochs[member]:
                self._orders[member] = self.batches[member].order(epoch)
                self._epochs[member] = epoch
            places.append(position * self._size)
        if len(set(places)) == 1:
            return self._orders[:, places[0] : places[0] + self._size]
        columns = torch.tensor(places, device=self._orders.device)[:, None]
        return self._orders.gather(1, columns + torch.arange(self._size, device=self._orders.device))

    def _augmented(self, index: Tensor, steps: Sequence[int]) -> dict[str, Any]:
        made = [
            augment(self.split.take(row), each.settings.noise, each.settings.mixup, each.member.seed, step)
            for row, each, step in zip(index, self.members, steps, strict=True)
        ]
        found: dict[str, Any] = {"inputs": stacked([each.batch.inputs for each in made])}
        if self._mixes:
            partners = [each.partner or each.batch for each in made]
            found["partner"] = {
                name: torch.stack([partner.targets[name] for partner in partners]) for name in self.split.targets
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
