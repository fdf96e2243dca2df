from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mtl.search.methods.method import Decision, Method, Problem, Report, Start, random_starts
from mtl.search.options import MethodOptions


class Hyperband(Method):
    """Brackets of successive halving, from many short runs to few whole ones (Li et al., JMLR 2018, algorithm 1).

    With s_max = log_eta(length / interval), there is a bracket for each s = s_max ... 0. It begins about members x
    (s_max + 1) / (s + 1) x eta^(s - s_max) runs. After length x eta^-s, length x eta^(1-s), ... steps, rounded to
    intervals, it keeps the best 1 / eta of its runs. Given `trials`, the brackets are repeated until so many runs
    began.
    """

    name: ClassVar[str] = "hyperband"
    waves: ClassVar[int] = 4
    about: ClassVar[str] = "brackets of successive halving (Li et al. 2018)"
    hears: ClassVar[frozenset[str]] = frozenset({"eta"})

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        eta, units = options.eta, problem.length / problem.interval
        deepest = max(0, math.floor(math.log(units, eta) + 1e-9))
        #: Of each bracket the number of runs, and the steps of its rungs; they come in turn.
        self._brackets = [self._bracket(s, deepest) for s in range(deepest, -1, -1)]
        self.trials = options.trials if options.trials is not None else sum(size for size, _ in self._brackets)
        self._current = self._started = 0

    def _bracket(self, s: int, deepest: int) -> tuple[int, list[int]]:
        problem, eta = self.problem, self.options.eta
        size = math.ceil(self.options.members * (deepest + 1) / (s + 1) * eta ** (s - deepest) - 1e-9)
        at = (round(problem.length * eta ** (k - s) / problem.interval) * problem.interval for k in range(s))
        return size, sorted({max(step, problem.interval) for step in at})

    @property
    def rungs(self) -> list[int]:
        """The numbers of steps after which the runs of the present bracket are compared."""
        return self._brackets[self._current % len(self._brackets)][1]

    def propose(self, count: int) -> list[Start]:
        """The runs of the next bracket."""
        return random_starts(self.problem, count, self._started)

    def begin(self) -> list[Start]:
        return self._open()

    def more(self) -> list[Start]:
        return self._open()

    def decide(self, reports: Sequence[Report]) -> Decision:
        if all(report.finished for report in reports):
            self._current += 1
            return Decision(start=self._open())
        if all(report.broken for report in reports):
            self._current += 1
            return Decision(stop=frozenset(report.trial for report in reports), start=self._open())
        if reports[0].step not in self.rungs:
            return Decision(stop=frozenset(report.trial for report in reports if report.broken))
        ranked = sorted(reports, key=lambda report: (-report.score, report.trial))
        kept = max(1, math.floor(len(ranked) / self.options.eta))
        return Decision(stop=frozenset(report.trial for report in ranked[kept:]))

    @property
    def work(self) -> int:
        """Steps of all runs, were none to break."""
        total, left = 0, self.trials
        for size, rungs in itertools.cycle(self._brackets):
            if not left:
                break
            before, size = 0, min(size, left)
            left -= size
            for step in [*rungs, self.problem.length]:
                total += size * (step - before)
                before, size = step, max(1, math.floor(size / self.options.eta))
        return total

    def _open(self) -> list[Start]:
        size = min(self._brackets[self._current % len(self._brackets)][0], self.trials - self._started)
        if size <= 0:
            return []
        starts = self.propose(size)
        self._started += len(starts)
        return starts

    def state_dict(self) -> dict[str, Any]:
        return {"current": self._current, "started": self._started}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self._current, self._started = saved["current"], saved["started"]
