"""Carries out a finished search again, decision by decision as recorded, so that every program has the same members.

What a member becomes depends on its siblings, by rounding alone: a product of many members adds in another order than
that of one, and a step in which a sibling is not finite takes another way. Over hundreds of steps that grows to
differences that can be seen. So an exact replay of one run trains all that were trained beside it, at the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mtl.files.lineage import Event
from mtl.search.methods import Decision, Exploit, Method, MethodOptions, Problem, Report, Start

#: Results of the runs of a search by their number.
Records = Mapping[int, Mapping[str, Any]]


class RecordedDecisions(Method):
    """A method whose decisions are known: each is taken when all runs together have made a given number of steps."""

    name: ClassVar[str] = "replay"
    about: ClassVar[str] = "a finished search, decision by decision"
    waits: ClassVar[bool] = False

    def __init__(self, problem: Problem, script: Mapping[int, Decision], *, asynchronous: bool) -> None:
        members = sum(len(decision.start) for decision in script.values())
        super().__init__(problem, MethodOptions(members=members, asynchronous=asynchronous))
        self._script = script
        self._steps: dict[int, int] = {}

    def begin(self) -> list[Start]:
        return list(self._script[0].start)

    def decide(self, reports: Sequence[Report]) -> Decision:
        self._steps |= {report.trial: report.step for report in reports}
        return self._script.get(sum(self._steps.values()), Decision())


class Rerun:
    """The part of a search that a run depends on: from when no run before was alive any more, to the end of that run.

    Args:
        events: of the search.
        records: of all its runs.
        number: of the run.

    Attributes:
        runs: numbers of the runs of that part, in order; those of the replay are their places.
        shards: in how many shards it was trained; None where in one process.

    Raises:
        ValueError: the files do not say how the runs were trained side by side.
    """

    def __init__(self, events: Sequence[Event], records: Records, number: int) -> None:
        begun = {event.target: event for event in events if event.source is None}
        if any(event.spent is None for event in events) or any("spent" not in record for record in records.values()):
            raise ValueError("its files do not say when its runs began and ended")
        if begun.keys() - records.keys():
            raise ValueError("some of its runs have no result")
        self._begun = {run: event.spent or 0 for run, event in begun.items()}
        self._ended: dict[int, int] = {run: record["spent"] for run, record in records.items()}
        self._from, self._until = self._opening(number), self._ended[number]
        self.runs = sorted(run for run, at in self._begun.items() if self._from <= at < self._until)
        self._events = [event for event in events if self._from <= (event.spent or 0) < self._until]
        arranged = {event.shards for event in self._events if event.source is None}
        arranged |= {records[run]["shards"] for run in self.runs if self._ended[run] <= self._until}
        if len(arranged) > 1:
            raise ValueError("it went on with another number of shards than it began with")
        (self.shards,) = arranged

    def _opening(self, number: int) -> int:
        """The last moment, before the run began, at which no run was alive."""
        for at in sorted({at for at in self._begun.values() if at <= self._begun[number]}, reverse=True):
            if all(self._ended[run] <= at for run, begun in self._begun.items() if begun < at):
                return at
        raise ValueError("its runs end before they begin")

    def method(self, problem: Problem, *, asynchronous: bool) -> RecordedDecisions:
        """What makes the same decisions again."""
        place = {run: index for index, run in enumerate(self.runs)}
        script: dict[int, Decision] = {}
        times = {self._from, self._until, *(event.spent or 0 for event in self._events)}
        times |= {self._ended[run] for run in self.runs if self._ended[run] < self._until}
        for at in times:
            here = [event for event in self._events if event.spent == at]
            over = self.runs if at == self._until else [run for run in self.runs if self._ended[run] == at]
            script[at - self._from] = Decision(
                [Exploit(place[e.target], place[e.source], e.after) for e in here if e.source is not None],
                frozenset(place[run] for run in over),
                [Start(e.after, e.seed) for e in sorted(here, key=lambda e: e.target) if e.source is None],
            )
        return RecordedDecisions(problem, script, asynchronous=asynchronous)

    def arrivals(self, curves: Mapping[int, Mapping[str, Sequence[Any]]]) -> list[frozenset[int]]:
        """The runs that came to the end of an interval together, in the order in which they did.

        Args:
            curves: the history of each run by its number.
        """
        found: dict[int, set[int]] = {}
        for place, run in enumerate(self.runs):
            for spent in curves[run]["search_spent"]:
                if self._from < spent <= self._until:
                    found.setdefault(spent, set()).add(place)
        return [frozenset(found[spent]) for spent in sorted(found)]
