"""The batches of many members: each member's are those that its seed gives a run by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split, Task
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.tree import floating_dtype, stacked
from mtl.losses.labels import known
from mtl.population.strategies import differing
from mtl.train.augment import augment
from mtl.train.batches import pools
from mtl.train.job import Job
from mtl.train.moving import Mover
from mtl.train.source import Source


class Feed:
    """Batches of one split for members of one structure.

    Args:
        split: on the device.
        members: who gets them.
        tasks: with the losses that the members' program was made with.
        stream: of `mtl.train.batches.Order`.
        augmented: whether changes of pictures, noise, mixup and cutmix apply, as they do to the batches that parameters
            are trained on.
        missing: whether the training split lacks labels, so that a task can be absent from a batch.
    """

    def __init__(
        self,
        split: Examples,
        members: Sequence[Job],
        tasks: Sequence[Task],
        stream: int,
        *,
        augmented: bool,
        missing: bool,
    ) -> None:
        self.split, self.missing, self._tasks = split, missing, tasks
        self._stream, self._augmented_ones = stream, augmented
        self.change(members)
        settings = members[0].settings
        self._sources = {
            task: Source(examples, size, self._seeds, stream, task)
            for task, (examples, size) in pools(split, settings.batch_size, settings.sampling).items()
        }

    def change(self, members: Sequence[Job]) -> None:
        """Give the batches to other jobs of the same structure and seeds: what reads ahead goes on."""
        self.members = members
        self._mixes = self._augmented_ones and any(each.settings.mixes for each in members)
        self._augments = self._mixes or (self._augmented_ones and any(each.settings.noise for each in members))
        self._mover = Mover(members[0].settings.augment if self._augmented_ones else "", members[0].tasks)
        self._seeds = [each.member.seed for each in members]
        self._dtype = floating_dtype(self.split.first(1)) or torch.get_default_dtype()
        self._parameters = loss_parameters(members, self._tasks, self._dtype, self.split.device)

    def take(self, steps: Sequence[int]) -> dict[str, Any]:
        """Each member's batch of its step: tensors (N, B, ...), with what else its losses depend on."""
        every = {task: source.take(steps) for task, source in self._sources.items()}
        drawn: Split | OwnExamples = OwnExamples(every) if isinstance(self.split, OwnExamples) else every[""]
        drawn = self._mover.moved(drawn, self._seeds, steps)
        batch: dict[str, Any] = {"inputs": drawn.inputs, "targets": {**drawn.targets}, "parameters": self._parameters}
        if self._augments:
            batch |= self._augmented(drawn, steps)
        if self.missing:
            first = self.members[0]
            labelled = {task.name: known(batch["targets"][task.name]).flatten(1).any(1) for task in first.tasks}
            batch["absent"] = ~torch.stack([labelled[task] for task in first.losses.values()], 1)
        return batch

    def close(self) -> None:
        """End processes that read ahead; they begin again where a batch is asked for."""
        for source in self._sources.values():
            source.close()

    def _augmented(self, drawn: Split | OwnExamples, steps: Sequence[int]) -> dict[str, Any]:
        made = [
            augment(
                drawn.row(row), each.settings.noise, each.settings.mixup, each.member.seed, step, each.settings.cutmix
            )
            for row, (each, step) in enumerate(zip(self.members, steps, strict=True))
        ]
        found: dict[str, Any] = {"inputs": stacked([each.batch.inputs for each in made])}
        if self._mixes:
            partners = [each.partner or each.batch for each in made]
            found["targets"] = {
                name: torch.stack([each.batch.targets[name] for each in made]) for name in drawn.targets
            }
            found["partner"] = {
                name: torch.stack([partner.targets[name] for partner in partners]) for name in drawn.targets
            }
            found["share"] = {
                name: torch.tensor([each.share_of(name) for each in made], dtype=self._dtype, device=self.split.device)
                for name in drawn.targets
            }
        return found


def loss_parameters(
    members: Sequence[Job], tasks: Sequence[Task], dtype: torch.dtype, device: torch.device
) -> dict[str, dict[str, Tensor]]:
    """The parameters in which a loss of the members is not that of their program, (N,) each, by task.

    Members that have left may have had that of the program, and those that stay, even a single one, another.
    """
    found = {}
    for task, *others in zip(tasks, *(each.tasks for each in members), strict=True):
        if any(other.loss is not task.loss for other in others):
            like = torch.zeros((), dtype=dtype, device=device)
            values = differing([task.loss, *(other.loss for other in others)], like)
            found[task.name] = {name: value[1:] for name, value in values.items()}
    return found
