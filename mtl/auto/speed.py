"""What runs cost on this machine: measured on runs of one structure, which train as one program, and on unlike ones."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mtl.search.plan import run_length
from mtl.study.setup import StudySetup
from mtl.train import Cohort, Member

_ALIKE = 9  # runs of one structure whose speed is compared with that of one alone
_MEASURED = 0.01  # share of the time that each of three measurements takes
# The median of several looks is taken: whatever else the machine does comes in bursts.
_FEWEST_LOOKS, _MOST_LOOKS, _STEPS_A_LOOK = 3, 15, 3
_FIRST = 2  # steps that are not counted: the first takes longer

#: Makes cohorts whose runs are tried for a moment.
MakeTried = Callable[[Sequence[Member]], Cohort]


def lasting(setting: StudySetup) -> StudySetup:
    """The setting of runs that are not over before their speed is measured, however short those of the recipe are."""
    steps = max(run_length(setting), _FIRST + _MOST_LOOKS * _STEPS_A_LOOK + 1)
    return dataclasses.replace(setting, settings=dataclasses.replace(setting.settings, steps=steps))


class Speed(NamedTuple):
    """What runs cost, in seconds.

    Attributes:
        program: of an optimizer step of a program, however many runs of one structure it trains.
        member: what each of these runs adds.
        evaluation: of a run on the examples that select.
        unlike: how many times as much steps cost where runs differ in all that is searched.
        learning: what precedes the first step of a run, each by itself: steps of losses that learn before training.
    """

    program: float
    member: float
    evaluation: float
    unlike: float = 1.0
    learning: float = 0.0

    def step(self, together: float) -> float:
        """Of a run where so many share a program."""
        return self.unlike * (self.program / together + self.member)

    def run(self, steps: int, evaluations: int, together: float) -> float:
        """Of a whole run where so many share a program."""
        return self.learning + steps * self.step(together) + evaluations * self.evaluation

    @property
    def alike(self) -> Speed:
        """The same where runs differ in numbers alone."""
        return self._replace(unlike=1.0)


class Alone(NamedTuple):
    """What a run of the default by itself costs, in seconds.

    Attributes:
        step: of it.
        learning: what precedes the first.
    """

    step: float
    learning: float


def measure_alone(cohort: Cohort, limit: float, now: Callable[[], float]) -> Alone:
    """Train the default for a moment.

    Args:
        cohort: of it alone.
        limit: the whole time, of which little is used.
        now: tells the time.
    """
    learning = learning_seconds(cohort, now)  # which a cohort that has made its steps would not tell
    return Alone(step_seconds(cohort, limit, now), learning)


def measure_speed(
    make_cohort: MakeTried,
    alone: Alone,
    usual: Member,
    unlike: Sequence[Member],
    programs: int,
    limit: float,
    now: Callable[[], float],
) -> Speed:
    """Train some runs for a moment.

    Args:
        make_cohort: trains.
        alone: what a run of the default costs, just now.
        usual: the default.
        unlike: runs that differ as those of the race, or of the finals, do.
        programs: how many programs train these.
        limit: the whole time, of which little is used.
        now: tells the time.
    """
    many, evaluation = _seconds(make_cohort([usual] * _ALIKE), limit, now)
    mixed, _ = _seconds(make_cohort(unlike), limit, now)
    member = max(0.0, min(many / _ALIKE, (many - alone.step) / (_ALIKE - 1)))
    program = max(0.0, alone.step - member)
    expected = programs * program + len(unlike) * member
    ratio = max(1.0, mixed / expected) if expected > 0 else 1.0
    return Speed(program, member, evaluation / _ALIKE, ratio, alone.learning)


def learning_seconds(cohort: Cohort, now: Callable[[], float]) -> float:
    """What the losses of a run that learn before training take for it, from a few of their steps."""
    if not (waiting := cohort.waiting):
        return 0.0
    taken = []
    for _ in range(1 + _FEWEST_LOOKS):
        before, left = now(), cohort.waiting
        if left and cohort.begin(seconds=0.0):
            taken.append((now() - before) / (left - cohort.waiting))
    return waiting * statistics.median(taken[1:] or taken)  # the first takes longer


def step_seconds(cohort: Cohort, limit: float, now: Callable[[], float]) -> float:
    """What a step of all runs of a cohort takes."""
    return _seconds(cohort, limit, now)[0]


def _seconds(cohort: Cohort, limit: float, now: Callable[[], float]) -> tuple[float, float]:
    """What a step and an evaluation of all runs take, without what precedes the first step."""
    cohort.try_steps(_FIRST)
    cohort.evaluate()  # the first of each takes longer
    begun, trained, evaluated = now(), list[float](), list[float]()
    while len(trained) < _FEWEST_LOOKS or (now() - begun < _MEASURED * limit and len(trained) < _MOST_LOOKS):
        before = now()
        cohort.try_steps(_STEPS_A_LOOK)
        between = now()
        cohort.evaluate()
        trained.append((between - before) / _STEPS_A_LOOK)
        evaluated.append(now() - between)
    return statistics.median(trained), statistics.median(evaluated)
