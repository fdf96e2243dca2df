"""How a time is spent: how long runs are, how many begin together, and when each part of the decision has to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from mtl.auto.clock import shown
from mtl.auto.dear import Dear
from mtl.auto.narrow import sentences
from mtl.auto.near import ALIKE
from mtl.auto.race import RUNGS
from mtl.auto.speed import Speed

# Shares of the time. Finals get the larger one where they would not have the recipe's length otherwise.
FINALS, MOST_FINALS, PAGE = 0.26, 0.41, 0.05
_MEASURING = 0.04  # in which the speed is measured again after the race
RACE_SHARE = 1 - FINALS - _MEASURING - PAGE
_RACE = 0.5  # of the time that measuring has left, at least
_PATH = 1 / 6  # of the finals' share, for the runs between the default and the winner
_INTERVALS, MEMBERS = 9, 12  # of a run of the race, from one evaluation to the next; runs of its first bracket
# Whole runs that the race is worth: one that passes through two of its brackets, or through one where that is not to be
# had.
_WHOLE_RUNS, _FEWEST_RUNS = 8, 4
_ENOUGH, _SHORT = 1 / 3, 1 / 5  # shares of the recipe's length that runs should have, and have unless nothing is left
_FEWEST_MEMBERS = 4
_FEW_SEEDS, _FEWEST_SEEDS, _FEWEST_STEPS = 4, 3, 27
_EVALUATIONS = 20  # of a run of a finalist
_LEARNING = 0.5  # share of the race that the first bracket may take for losses that learn before training
_UNSURE = 1.3  # by which a cost may be wrong


class FinalsPlan(NamedTuple):
    """The finals.

    Attributes:
        finalists: beside the default.
        seeds: of each.
        length: steps of a run.
        seconds: that they take.
    """

    finalists: int
    seeds: int
    length: int
    seconds: float


@dataclass(frozen=True)
class TimePlan:
    """What was decided before the race, and of the finals after it.

    Attributes:
        length: steps of a whole run of the race.
        interval: steps from one comparison of the race to the next.
        members: runs of its first bracket.
        dropped: what is not decided because there is no time for it.
        run: seconds of a whole run of the race.
        finalists: beside the default.
        seeds: of each finalist.
        final_length: steps of a run of a finalist.
        final_run: seconds of such a run.
        race_until: seconds at which the race ends.
        finals_until: seconds at which the finals end.
        path_until: seconds at which the runs between default and winner end.
        recipe: steps of a run of the benchmark's recipe.
        dear: choices of architecture that are not tried because their runs take too long.
        learning: seconds of a run in which its losses learn before its first step.
        begun: seconds at which the race begins.
    """

    length: int
    interval: int
    members: int
    dropped: tuple[str, ...]
    run: float
    finalists: int
    seeds: int
    final_length: int
    final_run: float
    race_until: float
    finals_until: float
    path_until: float
    recipe: int
    dear: tuple[Dear, ...] = ()
    learning: float = 0.0
    begun: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> TimePlan:
        """The inverse of `plain`."""
        dear = tuple(Dear(*each) for each in plain.get("dear", ()))
        return cls(**{**plain, "dropped": tuple(plain["dropped"]), "dear": dear})

    def within(self, limit: float) -> TimePlan:
        """The same plan in a time that has grown since it was made: what is more goes to the race."""
        more = max(0.0, (1 - PAGE) * limit - self.path_until)
        later = {name: getattr(self, name) + more for name in ("race_until", "finals_until", "path_until")}
        return replace(self, **later)

    def after_the_race(self, elapsed: float, finalists: int, seeds: int, speed: Speed) -> TimePlan:
        """The same with finals that fit into what is left.

        Args:
            elapsed: seconds that are over.
            finalists: that there are, beside the default.
            seeds: of each, at most.
            speed: of their runs.
        """
        left = self.path_until - elapsed
        finals = plan_finals(left, self.recipe, speed, finalists, seeds)
        until = min(self.path_until, elapsed + max((1 - _PATH) * left, finals.seconds))
        run = speed.run(finals.length, _EVALUATIONS, finals.seeds)
        return replace(
            self, finalists=finals.finalists, seeds=finals.seeds, final_length=finals.length, final_run=run,
            finals_until=until,
        )  # fmt: skip

    @property
    def final_interval(self) -> int:
        """Steps from one evaluation of a finalist to the next."""
        return max(1, self.final_length // _EVALUATIONS)

    def telling(self, steps: int) -> bool:
        """Whether finals of so many steps tell what is better in runs of the recipe's length."""
        return steps >= int(_ENOUGH * self.recipe)

    @property
    def short(self) -> bool:
        """Whether runs of the race are far shorter than the recipe's."""
        return self.length < int(_SHORT * self.recipe)

    def seeds_until(self, seconds: float, points: int) -> int:
        """Seeds of so many points that can be trained in a time, at most those of the finals."""
        one = self.final_run * points * _UNSURE
        return self.seeds if one <= 0 else max(0, min(self.seeds, int(seconds / one)))

    def words(self, limit: float) -> list[str]:
        """What was decided before the race, a sentence each."""
        took = shown(self.run) if self.run >= 1 else f"{1e3 * self.run:.0f} ms"
        dear = [each.words(limit) for each in self.dear if "architecture" not in self.dropped]
        found = [
            *dear,
            *sentences(self.dropped, limit),
            f"A run of {self.length} steps takes about {took} in the race.",
            *self._words_of_learning(limit),
        ]
        if self.length < self.recipe:
            found.append(
                f"The recipe's have {self.recipe} steps"
                + (
                    ": so few tell little of what is best in the end, and only more --time helps."
                    if self.short
                    else ", for which there is no time in the race."
                )
            )
        if self.begun >= self.race_until:
            found.append(
                f"No time is left for a race: measuring what runs cost took until {shown(self.begun)} of "
                f"{shown(limit)}. The machine is busy or the model slow, and only more --time helps."
            )
            return found
        runs = (self.race_until - self.begun) / self.run if self.run > 0 else 0.0
        found.append(
            f"The race lasts until {shown(self.race_until)} of {shown(limit)}, worth about {runs:.0f} whole runs: "
            f"{self.members} begin in its first bracket, and of three one goes on after a third of its steps."
        )
        return found

    def _words_of_learning(self, limit: float) -> list[str]:
        """What losses that learn before training cost each run."""
        if not self.learning:
            return []
        each = f"{self.learning:.0f} s" if self.learning >= 1 else f"{1e3 * self.learning:.0f} ms"
        said = f"Of each run {each} are its losses' steps before training"
        least = self.learning * (self.members + (self.finalists + 1) * self.seeds)
        if least <= limit:
            return [f"{said}."]
        many = f"of the fewest runs together {shown(least)}"
        return [f"{said}, and {many}: it takes more --time or fewer offline_steps."]

    def words_of_finals(self) -> str:
        """What was decided of the finals."""
        length = f"the recipe's {self.recipe}" if self.final_length >= self.recipe else f"{self.final_length}"
        less = "" if self.final_length >= self.recipe else f" of the recipe's {self.recipe}"
        return (
            f"{self.finalists} finalist{'s' * (self.finalists != 1)} and the default are trained for {length}{less} "
            f"steps under {self.seeds} fresh seeds each, until {shown(self.finals_until)} at the latest."
        )


def make_plan(
    limit: float,
    elapsed: float,
    recipe: int,
    speed: Speed,
    spaces: Sequence[tuple[tuple[str, ...], int]],
    *,
    finalists: int,
    seeds: int,
    members: int | None,
) -> TimePlan:
    """Decide how the time is spent.

    The race is worth at least eight whole runs. Where these would be shorter than a third of the recipe's, less is
    decided on. Where that is not enough either, the race is worth fewer runs, which are a fifth as long as the
    recipe's; shorter ones are made where there is no time for four of these. The race gets what the finals will not
    need: two thirds of the time or more, or half of it where finals would be shorter than the recipe otherwise. Where
    measuring has taken long, it gets half of what is left at least.

    Args:
        limit: seconds in all.
        elapsed: seconds that are over.
        recipe: steps of a run of the recipe.
        speed: of a run.
        spaces: what is decided on, and less and less: what is dropped, and how many programs the choices need.
        finalists: beside the default, at most.
        seeds: of each finalist, at most.
        members: runs of the first bracket; None for the usual number.
    """
    until = (1 - PAGE) * limit
    most = (1 - _RACE) * max(0.0, until - _MEASURING * limit - elapsed)
    share = min(FINALS * limit, most)
    finals = plan_finals(share, recipe, speed.alike, finalists, seeds)
    if finals.length < recipe:
        share = min(MOST_FINALS * limit, most)
        finals = plan_finals(share, recipe, speed.alike, finalists, seeds)
    race_until = until - _MEASURING * limit - min(share, finals.seconds / (1 - _PATH))
    seconds, enough = max(0.0, race_until - elapsed), max(1, round(_ENOUGH * recipe))
    longest = min(recipe, max(finals.length, enough))
    if members is None:
        room = _LEARNING * seconds / speed.learning if speed.learning else MEMBERS
        members = max(_FEWEST_MEMBERS, min(MEMBERS, int(room)))
    for dropped, kinds in spaces:
        cost = speed if not dropped else speed.alike
        learning = (members + members // 2) * speed.learning  # of the runs that begin in two brackets
        length = _race_length(seconds - learning, _WHOLE_RUNS, longest, cost, kinds)
        if length >= enough:
            break
    else:
        short = round(_SHORT * recipe)
        if length < short:
            length = _race_length(seconds - members * speed.learning, _FEWEST_RUNS, short, cost, kinds)
    length = max(length, min(recipe, _FEWEST_STEPS))
    return TimePlan(
        length=length,
        interval=max(1, length // _INTERVALS),
        members=members,
        dropped=dropped,
        run=cost.run(length, _INTERVALS, _together(kinds)),
        finalists=finals.finalists,
        seeds=finals.seeds,
        final_length=finals.length,
        final_run=speed.alike.run(finals.length, _EVALUATIONS, finals.seeds),
        race_until=race_until,
        finals_until=min(until, race_until + _MEASURING * limit + finals.seconds),
        path_until=until,
        recipe=recipe,
        learning=speed.learning,
        begun=elapsed,
    )


def plan_finals(seconds: float, recipe: int, speed: Speed, finalists: int, seeds: int) -> FinalsPlan:
    """The finals within a time.

    Seeds are dropped first, down to four, then finalists, down to two, which tell more than a fourth seed does; then
    that seed, the second finalist, the runs between the default and the winner, and steps.

    Args:
        seconds: of the finals and of these runs.
        recipe: steps of a run of the recipe.
        speed: of a run.
        finalists: beside the default, at most.
        seeds: of each, at most.
    """
    few, fewest, two = min(seeds, _FEW_SEEDS), min(seeds, _FEWEST_SEEDS), min(finalists, 2)
    choices = [(finalists, each) for each in range(seeds, few, -1)]
    choices += [(each, few) for each in range(finalists, 1, -1)]
    choices += [(two, fewest), (min(finalists, 1), few), (min(finalists, 1), fewest)]
    for count, each in choices:
        needed = _UNSURE * (count + 1) * each * speed.run(recipe, _EVALUATIONS, each)
        if needed <= (1 - _PATH) * seconds:
            return FinalsPlan(count, each, recipe, needed)
    share = seconds / _UNSURE / (count + 1) / each
    length = _steps(share, speed.step(each), speed.learning + _EVALUATIONS * speed.evaluation)
    return FinalsPlan(count, each, max(min(length, recipe), min(recipe, _FEWEST_STEPS)), min(needed, seconds))


def _race_length(seconds: float, runs: int, longest: int, speed: Speed, kinds: int) -> int:
    """Steps of a run of a race that is worth so many, at most `longest`."""
    return min(longest, _steps(seconds / runs, speed.step(_together(kinds)), _INTERVALS * speed.evaluation))


def _together(kinds: int) -> float:
    """How many runs of a bracket share a program, in the mean over its steps, where choices need so many programs."""
    left, begin, runs, programs = MEMBERS, 0.0, 0.0, 0.0
    most = min(kinds, MEMBERS // ALIKE)
    for end, kept in (*RUNGS, (1.0, 1.0)):
        runs += left * (end - begin)
        programs += min(most, left) * (end - begin)
        begin, left = end, max(1, int(left * kept))
    return runs / programs


def _steps(seconds: float, step: float, evaluations: float) -> int:
    """Steps of a run that takes so long, with evaluations that take a part of it."""
    return max(1, int((seconds - evaluations) / step)) if step > 0 else 10**9
