"""The race: runs that are proposed near the best ones, most of which end early, until its time is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from mtl.auto.near import Ranked, good_starts, proposed
from mtl.files.lineage import tupled
from mtl.search.methods import Decision, Method, MethodOptions, Problem, Report, Start
from mtl.search.space import Values

_MANY = 1_000_000  # runs; time decides how many there are
#: Shares of a run after which it is compared, and of the runs that go on. After a ninth those with a one-cycle schedule
#: have hardly begun, and the best of them would be lost; after a third the order is nearly the one in the end.
RUNGS = ((1 / 3, 1 / 3), (5 / 9, 1 / 2))
_KNOWN = 9  # runs that were compared after so many steps, from which on one has to be good among all of them


class Race(Method):
    """Bracket after bracket of runs that are compared with each other and with all before; it ends when it is told to.

    Successive halving (Jamieson & Talwalkar, AISTATS 2016) with two comparisons. A run goes on where it is among the
    best third of its bracket, later the best half, and among the best third, or half, of all runs that were compared
    after as many steps (as in ASHA, Li et al., MLSys 2020): of a bracket that is worse than those before nothing is
    left. The first bracket is twice as large as those that follow, which learn from all before.

    The default is trained to its end, whatever the others reach.

    Args:
        problem: of the search.
        members: runs of the first bracket.
        default: the values that are trained as the default.
        usual: the point of the space that is nearest to it.
        over: whether the time is over; asked after each segment.
    """

    name: ClassVar[str] = "race"
    about: ClassVar[str] = "successive halving within a time, near the best runs, beginning with the default"

    def __init__(
        self,
        problem: Problem,
        members: int,
        default: Values,
        usual: Values,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(problem, MethodOptions(members=max(members, 2), trials=_MANY))
        self._default, self._usual, self._over = default, usual, over
        #: By steps after which runs are compared, the share of a bracket that goes on.
        self._rungs = {rung(problem, share): keep for share, keep in RUNGS}
        self._points: list[Values] = []
        #: (steps, score) of every comparison.
        self._compared: list[tuple[int, float]] = []
        #: By run, its steps and the score with which it would be recorded; no steps where it broke.
        self._reached: dict[int, tuple[int, float]] = {}

    def begin(self) -> list[Start]:
        return self._open(self.options.members)

    def more(self) -> list[Start]:
        return self._open(max(1, self.options.members // 2))

    def decide(self, reports: Sequence[Report]) -> Decision:
        if self._over():
            return Decision(stop=frozenset(report.trial for report in reports))
        for report in reports:
            self._reached[report.trial] = (0 if report.broken else report.step, report.yielded[0])
        going_on = self._going_on([each for each in reports if not each.broken and not each.finished])
        stop = frozenset(each.trial for each in reports if each.trial not in going_on)
        return Decision(stop=stop, start=() if going_on else self.more())

    def _going_on(self, reports: Sequence[Report]) -> set[int]:
        """The runs that go on of those that could."""
        if not reports or (step := reports[0].step) not in self._rungs:
            return {report.trial for report in reports}
        self._compared += [(step, report.score) for report in reports]
        ranked = sorted(reports, key=lambda report: (-report.score, report.trial))
        best = ranked[: max(1, math.floor(len(ranked) * self._rungs[step]))]
        scores = sorted((score for steps, score in self._compared if steps == step), reverse=True)
        enough = scores[math.floor(len(scores) * self._rungs[step]) - 1] if len(scores) >= _KNOWN else -math.inf
        return {each.trial for each in best if each.score >= enough} | {
            each.trial for each in reports if not each.trial
        }

    def _open(self, count: int) -> list[Start]:
        """A bracket; none where time is over."""
        if self._over():
            return []
        starts: list[Start] = []
        if not self._points:
            given = [self._default, *good_starts(self.space, self._usual)]
            starts = [Start(values, informed=False) for values in given[:count]]
        seen = [Ranked(self._points[run], steps, score) for run, (steps, score) in self._reached.items()]
        begun = len(self._points) + len(starts)
        starts += proposed(self.problem, self._usual, seen, begun, count - len(starts))
        # The forest knows the default as the point that is nearest to it.
        self._points += [self._usual if each.values == self._default else each.values for each in starts]
        return starts

    def state_dict(self) -> dict[str, Any]:
        return {
            "points": self._points,
            "compared": self._compared,
            "reached": [[run, *found] for run, found in self._reached.items()],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self._points = [tupled(each) for each in saved["points"]]
        self._compared = [(steps, score) for steps, score in saved["compared"]]
        self._reached = {run: (steps, score) for run, steps, score in saved["reached"]}


def rung(problem: Problem, share: float) -> int:
    """The steps of a comparison after such a share of a run."""
    return max(1, round(share * problem.length / problem.interval)) * problem.interval
