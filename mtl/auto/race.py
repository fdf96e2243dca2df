"""The race: successive halving of runs that a model proposes, until its time is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from mtl.search.methods import Decision, MethodOptions, Problem, Report, Start
from mtl.search.methods.bohb import BOHB
from mtl.search.space import Values

_MANY = 1_000_000  # runs; time decides how many there are


class Race(BOHB):
    """BOHB, bracket after bracket, beginning with points that are given; it ends when it is told that time is over.

    The points that are given are trained to their end, whatever the others reach.

    Args:
        problem: of the search.
        members: runs of the first bracket.
        first: points that are given.
        over: whether the time is over; asked after each segment.
    """

    name: ClassVar[str] = "race"
    about: ClassVar[str] = "BOHB within a time, beginning with points that are given"

    def __init__(
        self, problem: Problem, members: int, first: Sequence[Values], over: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(problem, MethodOptions(members=max(members, len(first) + 1), trials=_MANY))
        self._first, self._over = tuple(first), over

    def propose(self, count: int) -> list[Start]:
        if self._started:
            return super().propose(count)
        starts = super().propose(count - len(self._first))
        self._asked = [*({} for _ in self._first), *self._asked]
        return [*(Start(values) for values in self._first), *starts]

    def more(self) -> list[Start]:
        return [] if self._over() else super().more()

    def decide(self, reports: Sequence[Report]) -> Decision:
        if self._over():
            return Decision(stop=frozenset(report.trial for report in reports))
        decision = super().decide(reports)
        broken = {report.trial for report in reports if report.broken}
        spared = set(range(len(self._first))) - broken
        return Decision(stop=decision.stop - spared, start=decision.start)
