"""A run as a value: what it is to do, where it is, what it has shown so far, and its best parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mtl.train.curves import Curves, Judgement, Point
from mtl.train.job import Job
from mtl.train.state import RunState
from mtl.train.stepper import Snapshot
from mtl.train.tally import Measured


@dataclass(frozen=True)
class Run:
    """One run between two steps. Nothing of it is written to: what happens to a run makes another value.

    Attributes:
        job: what it is to do.
        best: the parameters and buffers of its best evaluation; the first ones before there is one.
        state: where it is.
        curves: what it has shown.
    """

    job: Job
    best: Snapshot = field(repr=False)
    state: RunState = field(default_factory=RunState)
    curves: Curves = field(repr=False, default_factory=Curves)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state.finished(self.job)

    def stepped(self, steps: int, seconds: float) -> Run:
        """After more steps."""
        return dataclasses.replace(self, state=self.state.stepped(steps, seconds))

    def drawn(self, weights: list[float], losses: list[float | None], bad_steps: int) -> Run:
        """With a point of the curves for the step before this state, and what was known of bad steps then."""
        curves = self.curves.trained(Point(self.state.step - 1, weights, losses))
        return dataclasses.replace(self, state=self.state.looked(bad_steps), curves=curves)

    def noted(self, found: Measured, score: float) -> Run:
        """With an evaluation in the curves, that the schedule has seen."""
        losses = [found.losses[task.name] for task in self.job.tasks]
        curves = self.curves.evaluated(Judgement(self.state.step, losses, score))
        return dataclasses.replace(self, state=self.state.seen(score, self.job), curves=curves)

    def judged(self, found: Measured, score: float, snapshot: Callable[[], Snapshot]) -> Run:
        """After an evaluation that may be the best so far; `snapshot` gives the present parameters if it is."""
        noted = self.noted(found, score)
        state = noted.state.failed(found.failure).judged(score, self.job)
        best = snapshot() if state.since_best == 0 else self.best
        return dataclasses.replace(noted, state=state, best=best)

    def remembered(self, snapshot: Snapshot) -> Run:
        """Where the newest evaluation, made at the present parameters, is the best."""
        state = self.state.remembered(self.curves.evaluations[-1].selection)
        return dataclasses.replace(self, state=state, best=snapshot)

    def failed(self, reason: str) -> Run:
        """After something for which it cannot go on; unchanged where `reason` is empty."""
        return dataclasses.replace(self, state=self.state.failed(reason)) if reason else self

    def gone_on_from(self, other: Run, *, best: bool) -> Run:
        """With the parameters of another run, and with `best` its best evaluation; the curves stay."""
        state = self.state.gone_on_from(other.state, best=best)
        return dataclasses.replace(self, state=state, best=other.best if best else self.best)

    def assigned(self, job: Job) -> Run:
        """With another job."""
        return dataclasses.replace(self, job=job)

    def plain(self) -> dict[str, Any]:
        """All but the job as tensors and plain values, for a checkpoint."""
        return {"best": self.best, "state": self.state.plain(), "curves": self.curves.packed()}

    @classmethod
    def of(cls, job: Job, plain: Mapping[str, Any]) -> Run:
        """The inverse of `plain`."""
        return cls(job, plain["best"], RunState.of(plain["state"]), Curves.of(plain["curves"]))
