"""What a method's decision makes of the runs: who takes over whom, and with which values each goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

from mtl.files.lineage import Event
from mtl.search.methods import Decision
from mtl.search.standing import Standing
from mtl.search.trial import better_of
from mtl.train import Member


@dataclass(frozen=True)
class Takeover:
    """What changes by one decision, in the words of all who have to know.

    Attributes:
        standing: the search afterwards.
        events: the lines that the schedule gets.
        sources: for the cohort: by index of each member that takes over another, the index of that one.
        keeping: for the cohort: indices of those that keep their own best parameters.
        members: for the cohort: by index, members with their new values.
    """

    standing: Standing
    events: tuple[Event, ...]
    sources: dict[int, int]
    keeping: tuple[int, ...]
    members: dict[int, Member]


def take_over(
    standing: Standing, decision: Decision, broken: Collection[int], *, forgets: bool, search: str
) -> Takeover:
    """Let runs take over others as a method decided, and go on with other values.

    A run that takes over another keeps the better best evaluation of the two. So no state that was ever the best is
    lost because its run went astray later.

    Args:
        standing: before the decision. The runs that the decision names are alive.
        decision: of the method.
        broken: numbers of the runs that are not finite any more.
        forgets: whether a run gets the best evaluation of its source even if its own is better.
        search: name of the search, for the schedule.
    """
    index = {number: place for place, number in enumerate(standing.living)}
    trials, exploits = standing.trials, decision.exploits
    values = {**{exploit.target: exploit.values for exploit in exploits}, **decision.changes}
    best, events = {}, []
    for exploit in exploits:
        target, source = trials[exploit.target], trials[exploit.source]
        best[target.number] = source.best if forgets else better_of(target.best, source.best)
        events.append(
            Event(
                search,
                target.step,
                target.number,
                source.number,
                target.seed,
                target.values,
                exploit.values,
                {"target": target.scores[0], "source": source.scores[0]},
                source.step,
                standing.totals.steps,
            )
        )
    changed = [
        dataclasses.replace(trials[number], values=dict(new), best=best.get(number, trials[number].best))
        for number, new in values.items()
    ]
    return Takeover(
        standing.changed(changed).counted(
            exploits=len(exploits), replaced_nonfinite=sum(exploit.target in broken for exploit in exploits)
        ),
        tuple(events),
        {index[exploit.target]: index[exploit.source] for exploit in exploits},
        tuple(index[number] for number, kept in best.items() if kept is trials[number].best),
        {index[trial.number]: trial.member for trial in changed},
    )
