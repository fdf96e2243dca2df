"""Where a race looks next: near its best runs, at what a forest that was fitted to all of them says is good.

From a few dozen runs in a space of a dozen dimensions, most of them choices, a forest of regression trees learns more
than densities do (SMAC: Hutter, Hoos & Leyton-Brown, LION 2011), and what is near good runs is good more often than
what is drawn at random (DEHB: Awad, Mallik & Hutter, IJCAI 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtl.auto.parts import SIDE_BY_SIDE
from mtl.search.methods import Problem, Start
from mtl.search.space import Space, Values
from mtl.search.space.parameters import Choice, Generator, Number

#: Points that share their choices of structure, so that they train as one program.
ALIKE = 3
_PARENTS = 5  # of the best runs, of which two have a child
_FEWEST = 9  # runs from which on a forest is fitted
# A few trees of the forest judge each point: which ones differs, and so do the points (Thompson sampling).
_TREES, _JUDGES, _LEAF = 60, 3, 2
_POOL = 240  # points of which the best is taken
_DIGITS = 4  # of a number; what the fifth changes is less than what another seed does
_DRAWS = 20  # of which one is new, where there is still something new
_AT_RANDOM = 1 / 4  # share of the structures that nothing is known of
_MUTATED, _SPREAD = 0.2, 0.2  # chance that a value moves, and by which part of its range
_STREAM = 7  # of the generator
_ABSENT = -0.5  # beside places from 0 to 1: a dimension that does not exist in a point
_FASTER = 3.0  # as high a rate is what one-cycle schedules bear, which begin and end low

Table = npt.NDArray[np.float64]
#: What is said of points, by a few trees that a generator draws.
Judges = Callable[[Sequence[Values], Generator], Table]


class Ranked(NamedTuple):
    """A run of which something is known.

    Attributes:
        values: complete, as of a point of the space.
        steps: after which it was compared last; who got further was better until then.
        score: there, higher is better.
    """

    values: Values
    steps: int
    score: float


def good_starts(space: Space, usual: Values) -> list[Values]:
    """Points of the default's structure that are often better: a rate that rises and falls, and dropout beside it.

    Args:
        space: of the race.
        usual: the point of the default.
    """
    dimensions, changed = space.dimensions, dict(usual)
    schedule, rate, dropout = (dimensions.get(name) for name in ("schedule", "lr", "dropout"))
    if schedule is None or rate is None or not isinstance(rate.parameter, Number):
        return []
    if not isinstance(schedule.parameter, Choice) or "one-cycle" not in schedule.parameter.choices:
        return []
    changed |= {"schedule": "one-cycle", "lr": min(_FASTER * usual["lr"], rate.parameter.high)}
    found = [changed]
    if dropout is not None and isinstance(dropout.parameter, Number):
        found.append({**changed, "dropout": dropout.parameter.at(0.4)})
    return found


def proposed(problem: Problem, usual: Values, seen: Sequence[Ranked], first: int, count: int) -> list[Start]:
    """The next points, in threes of one structure.

    Args:
        problem: has the space and the seed.
        usual: the point of the default, a parent until runs are known.
        seen: the runs so far, in any order.
        first: the number of the first of the points.
        count: how many.
    """
    ordered = sorted(seen, key=lambda each: (-each.steps, -each.score))
    judges = _judges(problem.space, ordered) if len(ordered) >= _FEWEST else None
    parents = [each.values for each in ordered[:_PARENTS]] or [usual]
    found: list[Start] = []
    tried = [usual, *(each.values for each in seen)]
    for number in range(first, first + count):
        rng, leader = problem.rng(_STREAM, number), found[(number - first) // ALIKE * ALIKE :][:1]
        draw = partial(_drawn, problem.space, parents, rng)
        if leader:
            known = leader[0].informed is True
            draw = partial(_beside, problem.space, leader[0].values, draw, rng)
        else:
            known = judges is not None and rng.random() >= _AT_RANDOM
        draw = partial(_in_few_digits, problem.space, draw)
        values = _best(problem.space, partial(_new, draw, tried), judges if known else None, rng)
        tried.append(values)
        found.append(Start(values, informed=known))
    return found


def _drawn(space: Space, parents: Sequence[Values], rng: Generator) -> Values:
    """A child of two of the parents, or of one and a point drawn at random."""
    one, other = (parents[int(rng.integers(len(parents)))] for _ in range(2))
    if one is other or rng.random() < 1 / 2:
        other = space.sample(rng)
    return _moved(space, _crossed(space, one, other, rng), rng)


def _crossed(space: Space, one: Values, other: Values, rng: Generator) -> Values:
    """Each value of one of two points, with what exists beside a choice from the same."""
    values: Values = {}
    whose: dict[str, Values] = {}
    for name, parameter in space.active(values):
        condition = space.dimensions[name].condition
        whose[name] = (one, other)[int(rng.integers(2))] if condition is None else whose[condition.parent]
        values[name] = whose[name][name] if name in whose[name] else parameter.sample(rng)
    return values


def _moved(space: Space, values: Values, rng: Generator) -> Values:
    """A point some of whose values have moved."""
    moved: Values = {}
    for name, parameter in space.active(moved):
        if name not in values:
            moved[name] = parameter.sample(rng)
        else:
            moves = rng.random() < _MUTATED
            moved[name] = parameter.mutated(values[name], rng, _SPREAD) if moves else values[name]
    return moved


def _beside(space: Space, leader: Values, draw: Callable[[], Values], rng: Generator) -> Values:
    """A point with the structure of another, and numbers of a new draw."""
    choices = {name for name, each in space.dimensions.items() if isinstance(each.parameter, Choice)} - SIDE_BY_SIDE
    structure = {name: value for name, value in leader.items() if name in choices}
    return space.completed({**draw(), **structure}, rng)


def _in_few_digits(space: Space, draw: Callable[[], Values]) -> Values:
    """A draw whose numbers have few digits, so that the line that repeats it can be read."""
    values = draw()
    for name, value in values.items():
        parameter = space.dimensions[name].parameter
        if isinstance(parameter, Number) and not parameter.integer:
            values[name] = min(max(float(f"{value:.{_DIGITS}g}"), parameter.low), parameter.high)
    return values


def _new(draw: Callable[[], Values], tried: Sequence[Values]) -> Values:
    """The first of several draws that is none of the points that were tried; the last where all are."""
    values = draw()
    for _ in range(_DRAWS - 1):
        if values not in tried:
            break
        values = draw()
    return values


def _best(space: Space, draw: Callable[[], Values], judges: Judges | None, rng: Generator) -> Values:
    """The best of many draws in the eyes of a few trees; the first one where no forest is known. None is refused."""
    if judges is None:
        return space.accepted(draw)
    pool = [draw() for _ in range(_POOL)]
    order = np.argsort(-judges(pool, rng), kind="stable")
    # Only what would be taken is tried: to ask of a point whether it is refused takes longer than to judge it.
    ranked = iter([pool[int(k)] for k in order])
    return space.accepted(lambda: next(ranked))


def _judges(space: Space, ordered: Sequence[Ranked]) -> Judges:
    """What a few trees of a forest, drawn anew each time, say of points: from 0 for the worst rank to 1 for the best.

    Args:
        space: of the points.
        ordered: runs, the best first. Ranks are fitted: they do not depend on the scale of scores, nor on how far a bad
            run has gone astray.
    """
    from sklearn.ensemble import RandomForestRegressor  # takes a second to import

    columns = _columns(space)
    ranks = np.linspace(1.0, 0.0, len(ordered))
    forest = RandomForestRegressor(_TREES, min_samples_leaf=_LEAF, max_features=1 / 2, random_state=0, n_jobs=1)
    forest.fit(columns([each.values for each in ordered]), ranks)

    def judged(points: Sequence[Values], rng: Generator) -> Table:
        trees = rng.choice(_TREES, _JUDGES, replace=False)
        table = columns(points).astype(np.float32)
        said: Table = np.mean([forest.estimators_[k].predict(table) for k in trees], axis=0)
        return said

    return judged


def _columns(space: Space) -> Callable[[Sequence[Values]], Table]:
    """The table of points: the place of each in each dimension."""
    sizes = {name: len(each.parameter.place(each.parameter.grid(1)[0])) for name, each in space.dimensions.items()}

    def table(points: Sequence[Mapping[str, Any]]) -> Table:
        rows = [
            [
                number
                for name, size in sizes.items()
                for number in (
                    space.dimensions[name].parameter.place(point[name]) if name in point else [_ABSENT] * size
                )
            ]
            for point in points
        ]
        return np.array(rows, dtype=float)

    return table
