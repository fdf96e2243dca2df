"""How a search stands: its runs, which of them are alive, and what was done so far. A value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.search.trial import Best, Trial


@dataclass(frozen=True)
class Totals:
    """What was done so far, over all runs.

    Attributes:
        steps: optimizer steps.
        exploits: how often a run took over another.
        replaced_nonfinite: how often that run was not finite any more.
        best: after each segment, (optimizer steps so far, first objective of the best run).
    """

    steps: int = 0
    exploits: int = 0
    replaced_nonfinite: int = 0
    best: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Standing:
    """A search between two segments.

    Attributes:
        trials: all runs, alive and ended; a run's place is its number.
        living: numbers of the runs that are being trained, in the order in which the cohort has them.
        totals: over all runs.
    """

    trials: tuple[Trial, ...] = ()
    living: tuple[int, ...] = ()
    totals: Totals = Totals()

    @property
    def alive(self) -> tuple[Trial, ...]:
        """The runs that are being trained."""
        return tuple(self.trials[number] for number in self.living)

    @property
    def best(self) -> tuple[Trial, Best] | None:
        """The run with the best evaluation so far by the first objective, and that evaluation; None before there is
        one.

        Runs that were stopped, or that are not finite any more, do not count. So at the end this is the winner.
        """
        found = [
            (trial.best.scores[0], -trial.number, trial, trial.best)
            for trial in self.trials
            if trial.best is not None and (trial.status == "done" or (not trial.status and not trial.broken))
        ]
        return max(found, key=lambda each: each[:2])[2:] if found else None

    @property
    def informed(self) -> tuple[int, int] | None:
        """Of the runs that a model proposed, how many it proposed knowing scores of others, and how many there are.

        None for a method that has no model.
        """
        proposed = [trial.informed for trial in self.trials if trial.informed is not None]
        return (sum(proposed), len(proposed)) if proposed else None

    def begun(self, trials: Iterable[Trial]) -> Standing:
        """The standing after these runs began."""
        new = tuple(trials)
        living = self.living + tuple(trial.number for trial in new)
        return dataclasses.replace(self, trials=self.trials + new, living=living)

    def changed(self, trials: Iterable[Trial]) -> Standing:
        """The standing with these runs in the place of those with the same numbers."""
        new = list(self.trials)
        for trial in trials:
            new[trial.number] = trial
        return dataclasses.replace(self, trials=tuple(new))

    def without(self, ended: Collection[int]) -> Standing:
        """The standing after the runs of these numbers ended."""
        return dataclasses.replace(self, living=tuple(number for number in self.living if number not in ended))

    def trained(self, trials: Sequence[Trial], steps: int) -> Standing:
        """The standing after a segment.

        Args:
            trials: the runs that were trained and evaluated, as they are now.
            steps: optimizer steps that they made, all together.
        """
        totals = dataclasses.replace(self.totals, steps=self.totals.steps + steps)
        after = dataclasses.replace(self.changed(trials), totals=totals)
        score = -math.inf if after.best is None else after.best[1].scores[0]
        return dataclasses.replace(
            after, totals=dataclasses.replace(totals, best=(*totals.best, (totals.steps, score)))
        )

    def counted(self, *, exploits: int, replaced_nonfinite: int = 0) -> Standing:
        """The standing after so many takeovers, of which so many by runs that were not finite any more."""
        totals = dataclasses.replace(
            self.totals,
            exploits=self.totals.exploits + exploits,
            replaced_nonfinite=self.totals.replaced_nonfinite + replaced_nonfinite,
        )
        return dataclasses.replace(self, totals=totals)

    def ended(self, statuses: Mapping[int, str]) -> Standing:
        """The standing at the end of the search: no run is alive, and these have a status, by number."""
        trials = [dataclasses.replace(self.trials[number], status=status) for number, status in statuses.items()]
        return dataclasses.replace(self.changed(trials), living=())

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        trials = [trial.state_dict() for trial in self.trials]
        return {"trials": trials, "alive": list(self.living), "totals": {**vars(self.totals)}}

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Standing:
        """The standing that `state_dict` was made from."""
        trials = tuple(Trial.restored(trial) for trial in saved["trials"])
        totals = {**saved["totals"], "best": tuple(saved["totals"]["best"])}
        return cls(trials, tuple(saved["alive"]), Totals(**totals))
