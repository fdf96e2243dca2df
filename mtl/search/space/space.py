"""The space of a search: named parameters, some of which exist only beside certain choices of another."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mtl.extras import install
from mtl.search.space.dimension import Dimension
from mtl.search.space.parameters import Choice, Generator, Parameter, Suggester
from mtl.search.space.refusals import Refusals
from mtl.strategies import make
from mtl.train.values import Values, make_member

DRAWS = 100  # until one of them is accepted


class Space:
    """What a search varies.

    Args:
        dimensions: by name; a parent before the parameters that depend on it.
        refusals: points that no run begins with; None for none.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], refusals: Refusals | None = None) -> None:
        self.dimensions, self.refusals = dict(dimensions), refusals

    def active(self, values: Values) -> Iterator[tuple[str, Parameter]]:
        """The parameters that exist beside the choices in `values`, by name and in order.

        `values` may be filled in while this goes on: a parent comes before the parameters that depend on it.
        """
        for name, dimension in self.dimensions.items():
            condition = dimension.condition
            if condition is None or values.get(condition.parent) in condition.choices:
                yield name, dimension.parameter

    @property
    def varied(self) -> dict[str, Parameter]:
        """The parameters with more than one value."""
        return {
            name: dimension.parameter
            for name, dimension in self.dimensions.items()
            if not (isinstance(dimension.parameter, Choice) and len(dimension.parameter.choices) == 1)
        }

    @property
    def constants(self) -> Values:
        """What has one value."""
        varied = self.varied
        return {name: each.parameter.grid(1)[0] for name, each in self.dimensions.items() if name not in varied}

    def sample(self, rng: Generator) -> Values:
        """A point drawn at random, to begin with."""
        return self.accepted(lambda: self.completed({}, rng))

    def accepted(self, draw: Callable[[], Values]) -> Values:
        """The first of several draws with which a run may begin; the last where none may."""
        values = draw()
        for _ in range(DRAWS - 1):
            if self.refusals is None or not self.refusals.refuse(values):
                break
            values = draw()
        return values

    def completed(self, partial: Values, rng: Generator) -> Values:
        """A point with the values of `partial` where they exist beside each other; what is missing is drawn at
        random.
        """
        values: Values = {}
        for name, parameter in self.active(values):
            values[name] = partial[name] if name in partial else parameter.sample(rng)
        return values

    def perturbed(self, values: Values, rng: Generator, resample: float) -> Values:
        """The explore step of PBT: each value moves a little or, with probability `resample`, is drawn anew."""
        moved: Values = {}
        for name, parameter in self.active(moved):
            anew = rng.random() < resample or name not in values
            moved[name] = parameter.sample(rng) if anew else parameter.perturbed(values[name], rng)
        return moved

    def suggest(self, trial: Suggester) -> Values:
        """A point that Optuna picks."""
        values: Values = {}
        for name, parameter in self.active(values):
            values[name] = parameter.suggest(trial, name)
        return values

    def to_tune(self) -> dict[str, Any]:
        """The space in Ray Tune's distributions; see `mtl.ray.param_space`.

        Raises:
            ImportError: Ray is not installed; the message says how to install it.
        """
        if importlib.util.find_spec("ray") is None:
            raise ImportError(f"to_tune needs Ray Tune, which is not installed: {install('ray')}")
        from mtl.search.space.to_tune import to_tune

        return to_tune(self.dimensions)

    def count(self, points: int) -> int:
        """The number of points that `grid` returns where none is refused, without making them."""
        parents = {dimension.condition.parent for dimension in self.dimensions.values() if dimension.condition}
        branches: list[tuple[Values, int]] = [({}, 1)]  # choices that others depend on, and points beside them
        for name, dimension in self.dimensions.items():
            grown: list[tuple[Values, int]] = []
            for values, count in branches:
                condition = dimension.condition
                if condition is not None and values.get(condition.parent) not in condition.choices:
                    grown.append((values, count))
                elif name in parents:
                    grown += [({**values, name: value}, count) for value in dimension.parameter.grid(points)]
                else:
                    grown.append((values, count * dimension.parameter.count(points)))
            branches = grown
        return sum(count for _, count in branches)

    def grid(self, points: int) -> list[Values]:
        """All combinations of at most `points` values of each number with all choices, but for those refused."""
        found: list[Values] = [{}]
        for name, dimension in self.dimensions.items():
            grid = dimension.parameter.grid(points)
            found = [
                {**values, **({name: value} if value is not _ABSENT else {})}
                for values in found
                for value in (grid if name in dict(self.active(values)) else [_ABSENT])
            ]
        return [values for values in found if self.refusals is None or not self.refusals.refuse(values)]

    def check(self, losses: int) -> None:
        """Try each strategy at values of its ranges.

        Args:
            losses: how many a strategy weighs.

        Raises:
            ValueError: a strategy cannot be made of such values, or cannot weigh so many losses.
        """
        for strategy in self.dimensions["strategy"].parameter.grid(1):
            for points in (1, 2):
                values = {"strategy": strategy}
                for name, parameter in itertools.islice(self.active(values), 1, None):
                    values[name] = parameter.grid(points)[-1]
                make(make_member(values, 0).strategy).check_tasks(losses)

    def describe(self) -> dict[str, str]:
        """Names and ranges in the words of the command line."""
        return {name: dimension.parameter.describe() for name, dimension in self.dimensions.items()}


_ABSENT = object()
