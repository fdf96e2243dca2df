"""Where a run is: a value that each step and each evaluation makes a new one of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtl.train.job import Job


@dataclass(frozen=True)
class RunState:
    """Where a run is between two steps.

    Attributes:
        step: optimizer steps made.
        seconds: that they took.
        best_selection: score of the best evaluation so far.
        best_step: steps made at that evaluation; 0 before the first that could be judged.
        since_best: evaluations since then.
        stopped_early: whether they were so many that the run ended.
        bad_steps: steps in which something was not finite, as of the last point of the curves.
        falls: of the learning rate, where its schedule is `plateau`.
        plateau_best: score of the best evaluation that this schedule has seen.
        unimproved: evaluations since then, or since the last fall.
        failure: why the run cannot go on, such as a metric that raised an error; empty for none.
    """

    step: int = 0
    seconds: float = 0.0
    best_selection: float = -math.inf
    best_step: int = 0
    since_best: int = 0
    stopped_early: bool = False
    bad_steps: int = 0
    falls: int = 0
    plateau_best: float = -math.inf
    unimproved: int = 0
    failure: str = ""

    def finished(self, job: Job) -> bool:
        """Whether there is nothing left to do."""
        ended = self.stopped_early or bool(self.failure) or self.bad_steps > job.settings.nan_limit
        return self.step >= job.length or ended

    def stepped(self, steps: int, seconds: float) -> RunState:
        """After more steps."""
        return dataclasses.replace(self, step=self.step + steps, seconds=self.seconds + seconds)

    def looked(self, bad_steps: int) -> RunState:
        """After a look at how many steps were not finite, which waits for the device."""
        return dataclasses.replace(self, bad_steps=bad_steps)

    def failed(self, reason: str) -> RunState:
        """After something for which it cannot go on; what came first is told. Unchanged where `reason` is empty."""
        return dataclasses.replace(self, failure=self.failure or reason)

    def judged(self, score: float, job: Job) -> RunState:
        """After an evaluation that may be the best so far: `since_best` is 0 if it is."""
        if score > self.best_selection:
            return self.remembered(score)
        since_best = self.since_best + 1
        return dataclasses.replace(self, since_best=since_best, stopped_early=job.gives_up(since_best))

    def seen(self, score: float, job: Job) -> RunState:
        """After an evaluation of which a schedule may have waited for better, as `ReduceLROnPlateau` does."""
        if job.bears is None:
            return self
        if score > self.plateau_best:
            return dataclasses.replace(self, plateau_best=score, unimproved=0)
        if self.unimproved < job.bears:
            return dataclasses.replace(self, unimproved=self.unimproved + 1)
        return dataclasses.replace(self, falls=self.falls + 1, unimproved=0)

    def remembered(self, score: float) -> RunState:
        """After an evaluation that is the best so far."""
        return dataclasses.replace(self, best_selection=score, best_step=self.step, since_best=0)

    def gone_on_from(self, other: RunState, *, best: bool) -> RunState:
        """With the parameters of another run: what had ended this one is past.

        With `best` the other's best evaluation counts from here on.
        """
        taken: dict[str, Any] = {"stopped_early": False}
        taken |= {
            name: getattr(other, name) for name in ("bad_steps", "failure", "falls", "plateau_best", "unimproved")
        }
        if best:
            taken |= {name: getattr(other, name) for name in ("best_selection", "best_step", "since_best")}
        return dataclasses.replace(self, **taken)

    def plain(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> RunState:
        """The inverse of `plain`."""
        return cls(**plain)
