"""How a time is spent: how long runs are, how many begin together, and when each part of the decision has to end."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from mtl.auto.clock import shown
from mtl.search.cohort import MakeCohort
from mtl.train import Member

RACE, FINALS, PAGE = 0.65, 0.30, 0.05  # shares of the time
_PATH = 1 / 3  # of the finals' share, for the runs between the default and the winner
# Intervals of a run, and runs that begin in its first bracket, of which one is left at the end: halving by three begins
# at one, three or nine intervals. The second where evaluations are dear.
_FINE, _COARSE = (27, 27), (9, 12)
_DEAR = 0.4  # share of the evaluations in the cost of a run from which on they are
_WHOLE_RUNS = 16  # that the race is worth at least: one pass through its four brackets
_FEWEST_SEEDS, _FEWEST_FINALISTS, _FEWEST_STEPS = 4, 2, 27
_EVALUATIONS = 20  # of a run of a finalist
_MEASURED = 0.03  # share of the time in which the speed is measured
# The median of several looks is taken: whatever else the machine does comes in bursts.
_FEWEST_LOOKS, _MOST_LOOKS, _STEPS_A_LOOK = 3, 15, 4
_UNSURE = 1.3  # by which a cost may be wrong


class Speed(NamedTuple):
    """What runs cost, in seconds of one run trained beside others.

    Attributes:
        step: of an optimizer step.
        evaluation: on the examples that select.
    """

    step: float
    evaluation: float

    def run(self, steps: int, evaluations: int) -> float:
        """Seconds of a whole run."""
        return steps * self.step + evaluations * self.evaluation


def measure_speed(make_cohort: MakeCohort, members: Sequence[Member], limit: float, now: Callable[[], float]) -> Speed:
    """Train a few runs that differ as much as those of the race for a moment.

    Args:
        make_cohort: trains.
        members: the runs.
        limit: the whole time, of which little is used.
        now: tells the time.
    """
    cohort = make_cohort(members)
    cohort.advance(2, lambda: False)
    cohort.evaluate()  # the first of each takes longer
    begun, trained, evaluated = now(), list[float](), list[float]()
    while len(trained) < _FEWEST_LOOKS or (now() - begun < _MEASURED * limit and len(trained) < _MOST_LOOKS):
        before = now()
        cohort.advance(_STEPS_A_LOOK, lambda: False)
        between = now()
        cohort.evaluate()
        trained.append((between - before) / _STEPS_A_LOOK / len(members))
        evaluated.append((now() - between) / len(members))
    return Speed(statistics.median(trained), statistics.median(evaluated))


@dataclass(frozen=True)
class TimePlan:
    """What was decided before the race.

    Attributes:
        length: steps of a whole run.
        interval: steps from one comparison of the race to the next.
        rungs: intervals of a whole run.
        members: runs of its first bracket.
        finalists: beside the default.
        seeds: of each finalist.
        race_until: seconds at which the race ends.
        finals_until: seconds at which the finals end.
        path_until: seconds at which the runs between default and winner end.
        recipe: steps of a run of the benchmark's recipe.
        step: measured seconds of a step.
        evaluation: measured seconds of an evaluation.
    """

    length: int
    interval: int
    rungs: int
    members: int
    finalists: int
    seeds: int
    race_until: float
    finals_until: float
    path_until: float
    recipe: int
    step: float
    evaluation: float

    def plain(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)

    def within(self, limit: float) -> TimePlan:
        """The same plan in a time that has grown since it was made: what is more goes to the race."""
        more = max(0.0, (1 - PAGE) * limit - self.path_until)
        later = {name: getattr(self, name) + more for name in ("race_until", "finals_until", "path_until")}
        return replace(self, **later)

    @property
    def final_interval(self) -> int:
        """Steps from one evaluation of a finalist to the next."""
        return max(1, self.length // _EVALUATIONS)

    def seeds_until(self, seconds: float, points: int) -> int:
        """Seeds of so many points that can be trained in a time, at most those of the finals."""
        one = Speed(self.step, self.evaluation).run(self.length, _EVALUATIONS) * points * _UNSURE
        return self.seeds if one <= 0 else max(0, min(self.seeds, int(seconds / one)))

    def words(self, limit: float) -> list[str]:
        """What was decided, a sentence each."""
        whole = Speed(self.step, self.evaluation).run(self.length, self.rungs)
        found = [
            f"A run takes {1e3 * self.step:.3g} ms a step, and {self.length} steps with their evaluations about "
            f"{shown(whole)}."
            if whole >= 1
            else f"A run of {self.length} steps takes about {1e3 * whole:.0f} ms."
        ]
        if self.length < self.recipe:
            found.append(
                f"Runs have {self.length} steps in place of the recipe's {self.recipe}, so that there are enough of "
                "them: what wins here need not win there, and more --time would tell."
            )
        runs = (self.race_until) / whole if whole > 0 else 0.0
        found.append(
            f"The race lasts until {shown(self.race_until)} of {shown(limit)}, worth about {runs:.0f} whole runs: "
            f"{self.members} begin in its first bracket, and of three that are compared one goes on."
        )
        found.append(
            f"Then {self.finalists} finalists and the default are trained under {self.seeds} fresh seeds each, until "
            f"{shown(self.finals_until)} at the latest."
        )
        return found


def make_plan(
    limit: float, elapsed: float, recipe: int, speed: Speed, *, finalists: int, seeds: int, members: int | None
) -> TimePlan:
    """Decide how the time is spent.

    Finals get less than a third of it: seeds are dropped first, down to four, then finalists, down to two, then steps.
    The race is worth at least sixteen whole runs; where it is not, runs are shorter than the recipe's. What the finals
    will not need goes to the race.

    Args:
        limit: seconds in all.
        elapsed: seconds that are over.
        recipe: steps of a run of the recipe.
        speed: of a run.
        finalists: beside the default, at most.
        seeds: of each finalist, at most.
        members: runs of the first bracket; None for the usual number.
    """
    share = limit * FINALS * (1 - _PATH) / _UNSURE
    cost = speed.run(recipe, _EVALUATIONS)
    kept = _within(share / (finalists + 1), cost, min(seeds, _FEWEST_SEEDS), seeds)
    finalists = _within(share / kept, cost, min(finalists, _FEWEST_FINALISTS) + 1, finalists + 1) - 1
    longest = min(recipe, _steps(share / (finalists + 1) / kept, speed, _EVALUATIONS))
    rungs, usual_members = _FINE
    length = _race_length(limit, elapsed, longest, min(recipe, _FEWEST_STEPS), speed, rungs)
    if rungs * speed.evaluation > _DEAR * speed.run(length, rungs):
        rungs, usual_members = _COARSE
        length = _race_length(limit, elapsed, longest, min(recipe, _FEWEST_STEPS), speed, rungs)
    one = speed.run(length, _EVALUATIONS) * kept * _UNSURE
    needed = one * (finalists + 1) * (1 + _PATH)
    race_until = max(RACE * limit, (1 - PAGE) * limit - needed)
    finals_until = max((RACE + FINALS * (1 - _PATH)) * limit, race_until + one * (finalists + 1))
    return TimePlan(
        length=length,
        interval=max(1, length // rungs),
        rungs=rungs,
        members=members if members is not None else usual_members,
        finalists=finalists,
        seeds=kept,
        race_until=race_until,
        finals_until=min(finals_until, (1 - PAGE) * limit),
        path_until=(1 - PAGE) * limit,
        recipe=recipe,
        step=speed.step,
        evaluation=speed.evaluation,
    )


def _within(seconds: float, cost: float, fewest: int, most: int) -> int:
    """How many of a cost fit into a time, between two bounds."""
    return max(fewest, min(most, int(seconds / cost))) if cost > 0 else most


def _race_length(limit: float, elapsed: float, longest: int, fewest: int, speed: Speed, rungs: int) -> int:
    """Steps of a run of which the race is worth enough: at most `longest`, unless `fewest` is more."""
    steps = _steps(max(0.0, RACE * limit - elapsed) / _WHOLE_RUNS, speed, rungs)
    return max(min(longest, steps), fewest)


def _steps(seconds: float, speed: Speed, evaluations: int) -> int:
    """Steps of a run that takes so long."""
    return max(1, int((seconds - evaluations * speed.evaluation) / speed.step)) if speed.step > 0 else 10**9
