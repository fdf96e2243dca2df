"""One run made by the balancer as a user's own loop would: slow, obvious, and for what `vmap` cannot do."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples
from mtl.train.average import copied
from mtl.train.averaged import Average
from mtl.train.batches import derived_seed
from mtl.train.evaluate import measure_model
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import in_place_of, learned_losses, with_learned
from mtl.train.model import build_model
from mtl.train.offline import learn_before
from mtl.train.stepper import MEASURED, Snapshot
from mtl.train.surroundings import Randomness, seeded
from mtl.train.tally import Measured
from mtl.train.update import Updates

_RANKS = 7  # tells the seeds of what processes draw from those of batches


class Single:
    """A stepper of one row: a model, its optimizer and a balancer.

    Args:
        ground: benchmark, data and device.
        jobs: exactly one.
    """

    most = 1

    def __init__(self, ground: Ground, jobs: Sequence[Job]) -> None:
        self._ground = ground
        self._open(*jobs)

    def _open(self, job: Job) -> None:
        """Begin the job from nothing."""
        ground, settings, train = self._ground, job.settings, self._ground.splits.train
        self._job = job
        self._random = Randomness(ground.device, job.member.seed)
        with self._random.drawing():
            model = build_model(ground.benchmark, job.tasks, train.first(2), settings)
            self.model = with_learned(model, job.tasks).to(ground.device)
        self._updates = Updates(ground, job, self.model)
        self._average = Average(job, self.model, train) if settings.averages else None

    def begin(self, seconds: float) -> bool:
        """Let losses learn that do so before training; of several processes the leading one does it for all."""
        held, processes = learned_losses(self.model), self._ground.processes
        due = {place: loss.state() for place, loss in held.items() if bool(loss.waiting)}
        if not due:
            return False
        learn = partial(learn_before, self._ground, self._job, due, seconds)
        found = learn() if processes is None else processes.said(learn)
        for place, state in found.states.items():
            held[place].take(state)
        self._updates.count(found.forwards, found.backwards)
        return True

    def waiting(self) -> int:
        """Steps that losses have yet to make before training."""
        return sum(int(loss.waiting) for loss in learned_losses(self.model).values())

    def step(self, steps: Sequence[int], falls: Sequence[int]) -> None:
        """One optimizer step."""
        processes = self._ground.processes
        with self._random.drawing():
            if processes is not None and not processes.leads:  # what dropout draws is its own, and needs no checkpoint
                torch.manual_seed(derived_seed(self._job.member.seed, _RANKS, processes.rank, *steps))
            self._step(*steps, *falls)

    def _step(self, step: int, falls: int) -> None:
        self._updates.make(step, falls)
        if self._ground.processes is not None:
            self._ground.processes.average_statistics(self.model)
        if self._average is not None:
            self._average.follow(self.model, step)

    @property
    def stepped(self) -> list[str]:
        """The names of the parameters in the order in which the optimizer has them."""
        return self._updates.stepped

    def noted(self) -> tuple[list[list[float]], list[list[float | None]]]:
        """Weights and losses of the step just made."""
        weights, losses = self._updates.noted()
        return [weights], [losses]

    def skipped(self, row: int) -> dict[str, int]:  # noqa: ARG002
        """Steps by what was wrong in them."""
        return self._updates.skipped()

    def passes(self, row: int) -> tuple[int, int]:  # noqa: ARG002
        """Forward and backward passes so far: one forward pass a micro-batch, and what the balancer made."""
        return self._updates.passes()

    def close(self) -> None:
        """End processes that read batches ahead; they begin again at the next step."""
        self._updates.close()
        if self._average is not None:
            self._average.close()

    def sound(self) -> list[bool]:
        """Whether the parameters are finite."""
        return [all(bool(each.isfinite().all()) for each in self.model.parameters())]

    def stumbled(self) -> list[bool]:
        """Whether a loss of the last step was not finite."""
        return [not all(bool(loss.isfinite()) for loss in self._updates.losses.values())]

    # --- evaluation ------------------------------------------------------------------------------------------------

    def measured(self, rows: Sequence[int], split: Examples) -> list[Measured]:
        """Loss and metrics on a split, at the present parameters or their average."""
        if self._average is not None:
            self._average.renew(self.model)
            return self.measured_at(rows, [self._average.values for _ in rows], split)
        return [self._measure(split) for _ in rows]

    def measured_at(
        self, rows: Sequence[int], snapshots: Sequence[Snapshot], split: Examples, folds: int = 0
    ) -> list[Measured]:
        """The same at the parameters of a snapshot."""
        present, found = copied(self.model.state_dict()), []
        try:
            for _, snapshot in zip(rows, snapshots, strict=True):
                self.model.load_state_dict(snapshot)
                found.append(self._measure(split, folds))
        finally:
            self.model.load_state_dict(present)
        return found

    def _measure(self, split: Examples, folds: int = 0) -> Measured:
        """The model on a split; of several processes the leading one measures it for all."""
        processes = self._ground.processes
        measure = partial(measure_model, self.model, self._job.tasks, split, folds)
        with seeded(self._ground.device, self._job.member.seed, MEASURED):
            return measure() if processes is None else processes.said(measure)

    def snapshot(self, row: int) -> Snapshot:  # noqa: ARG002
        """A copy of the present parameters and buffers, or of their average, by name."""
        return copied(self.model.state_dict() if self._average is None else self._average.values)

    def weights(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """A snapshot as a `state_dict` of the model, with the learned losses that it holds."""
        return dict(snapshot)

    # --- exploit and explore ---------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Single:
        """A copy."""
        (_,) = rows
        copied = Single(self._ground, [self._job])
        copied.load_state_dict(copy.deepcopy(self.state_dict()))
        return copied

    def join(self, others: Sequence[Single]) -> Single:
        """This one: there is no room for others."""
        if others:
            raise ValueError(f"{1 + len(others)} runs cannot be trained as one")
        return self

    def take_over(self, row: int, source: Single, source_row: int) -> None:  # noqa: ARG002
        """Take over the state of a run of the same structure, but for its random numbers, settings and cost."""
        self.model.load_state_dict(source.model.state_dict())
        if self._average is not None:
            self._average.go_on_from(source._average, self.model)
        self._updates.take_over(source._updates)

    def change(self, jobs: Sequence[Job]) -> None:
        """Go on with another job of the same structure; what reads ahead goes on too."""
        before = copy.copy(self)
        self._open(*jobs)
        self._go_on_from(before)
        if before._average is not None:
            before._average.close()
        self._updates.read_on(before._updates)

    def restructured(self, row: int, job: Job) -> Single:  # noqa: ARG002
        """A copy with a job of another structure, and what of its state still has its form."""
        moved = Single(self._ground, [job])
        moved._go_on_from(self.select([0]))
        return moved

    def _go_on_from(self, before: Single) -> None:
        """Take the state of a run with another job that ends here."""
        self.model.load_state_dict(self.converted(before.model.state_dict()))
        if self._average is not None:
            self._average.go_on_from(before._average, self.model)
        self._updates.go_on_from(before._updates)
        self._random = before._random

    def converted(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot of a row from before `restructured`, in the form of those of this stepper."""
        return copied(in_place_of(self.model.state_dict(), snapshot))

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but the job."""
        return {
            "model": self.model.state_dict(),
            "random": self._random.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            **self._updates.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.model.load_state_dict(saved["model"])
        self._updates.load_state_dict(saved)
        self._random.load_state_dict(saved["random"])
        if self._average is not None:
            self._average.load_state_dict(saved["average"])
