from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mtl.search.methods.method import Decision, Method, Problem, Report, Start, random_starts
from mtl.search.options import MethodOptions


class ASHA(Method):
    """Asynchronous successive halving (Li et al., MLSys 2020), in its variant that stops runs.

    Rungs are at interval, interval x eta, ... steps. A run that reaches a rung goes on only if it is among the best 1 /
    eta of all that have reached that rung so far. A new run takes the place of one that was stopped, until `trials`
    runs were started.
    """

    name: ClassVar[str] = "asha"
    waves: ClassVar[int] = 4
    about: ClassVar[str] = "asynchronous successive halving (Li et al. 2020)"
    hears: ClassVar[frozenset[str]] = frozenset({"eta"})

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        if problem.length % problem.interval:
            raise ValueError(f"--interval {problem.interval}: asha needs a divisor of the {problem.length} steps")
        self._started = 0
        self._rungs: dict[int, list[float]] = {}
        step = problem.interval
        while step < problem.length:
            self._rungs[step] = []
            step = max(step + problem.interval, round(step * options.eta / problem.interval) * problem.interval)

    @property
    def expected_work(self) -> float:
        """One in eta of the runs goes on at each rung."""
        ends = [*self._rungs, self.problem.length]
        stretches = [end - before for before, end in zip([0, *ends], ends, strict=False)]
        return self.trials * sum(steps / self.options.eta**rung for rung, steps in enumerate(stretches))

    def begin(self) -> list[Start]:
        return self._next(min(self.options.members, self.trials - self._started))

    def more(self) -> list[Start]:
        return self.begin()

    def decide(self, reports: Sequence[Report]) -> Decision:
        stop: set[int] = set()
        arrived = [report for report in reports if report.step in self._rungs and not report.finished]
        for report in arrived:
            self._rungs[report.step].append(report.score)
        for report in arrived:
            ranked = sorted(self._rungs[report.step], reverse=True)
            good = ranked[max(1, math.floor(len(ranked) / self.options.eta)) - 1]
            if report.broken or report.score < good:
                stop.add(report.trial)
        ended = len(stop) + sum(report.finished for report in reports)
        return Decision(stop=frozenset(stop), start=self._next(min(ended, self.trials - self._started)))

    def _next(self, count: int) -> list[Start]:
        starts = random_starts(self.problem, count, self._started)
        self._started += len(starts)
        return starts

    def state_dict(self) -> dict[str, Any]:
        return {"started": self._started, "rungs": self._rungs}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self._started, self._rungs = saved["started"], dict(saved["rungs"])
