"""The race: successive halving of runs that a model proposes, until its time is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import optuna

from mtl.auto.parts import SIDE_BY_SIDE
from mtl.search.methods import Decision, MethodOptions, Problem, Report, Start
from mtl.search.methods._optuna import Proposal, proposals, quiet
from mtl.search.methods.bohb import BOHB, Sampler, Told
from mtl.search.space import Values
from mtl.search.space.parameters import Choice

_MANY = 1_000_000  # runs; time decides how many there are
_ALIKE = 3  # points that share their choices of structure


class Race(BOHB):
    """BOHB, bracket after bracket, beginning with points that are given; it ends when it is told that time is over.

    Points come in threes of one structure, which a vectorised program trains in hardly more time than one of them.

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

    def _drawn(self, told: Sequence[Told], samplers: Sequence[Sampler]) -> tuple[list[Start], list[Proposal]]:
        """Points in threes that share their choices of structure: runs of one structure are one program.

        The first of each three is drawn as in BOHB, the others with its choices held.
        """
        leaders, first = proposals(self.problem, told, [each.sampler for each in samplers[::_ALIKE]])
        followers = [(place, each) for place, each in enumerate(samplers) if place % _ALIKE]
        with quiet():
            held = [
                optuna.samplers.PartialFixedSampler(self._structure(first[place // _ALIKE]), each.sampler)
                for place, each in followers
            ]
        others, asked = proposals(self.problem, told, held)
        starts = [*leaders, *others]
        order = [*range(0, len(samplers), _ALIKE), *(place for place, _ in followers)]
        ranked = sorted(range(len(order)), key=order.__getitem__)
        every = [*first, *asked]
        return [starts[k] for k in ranked], [every[k] for k in ranked]

    def _structure(self, asked: Proposal) -> dict[str, Any]:
        """The choices of a point by which programs differ."""
        dimensions = self.space.dimensions
        choices = {name for name, each in dimensions.items() if isinstance(each.parameter, Choice)} - SIDE_BY_SIDE
        return {name: value for name, value in asked["params"].items() if name in choices}

    def more(self) -> list[Start]:
        return [] if self._over() else super().more()

    def decide(self, reports: Sequence[Report]) -> Decision:
        if self._over():
            return Decision(stop=frozenset(report.trial for report in reports))
        decision = super().decide(reports)
        broken = {report.trial for report in reports if report.broken}
        spared = set(range(len(self._first))) - broken
        return Decision(stop=decision.stop - spared, start=decision.start)
