"""Architectures whose steps take too long for the time that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mtl.auto.clock import shown
from mtl.auto.parts import part_of
from mtl.search.space import Space, Values
from mtl.search.space.dimension import Dimension
from mtl.search.space.parameters import Choice

_ENOUGH = 4  # whole runs of it that the race should have time for, or twelve that end when they are first compared


class Dear(NamedTuple):
    """A choice that is not tried.

    Attributes:
        name: of its dimension, `model` or `architecture`.
        choice: its spec.
        times: how many times as long as one of the default a step takes.
    """

    name: str
    choice: str
    times: float

    def words(self, limit: float) -> str:
        """That it is left out, and why."""
        return (
            f"{self.name.capitalize()} {self.choice} is not tried: its steps take {self.times:.1f} times as long, and "
            f"the race of {shown(limit)} has no time for {_ENOUGH} such runs."
        )


def dear_choices(
    space: Space, usual: Values, default: float, cost: Callable[[Values], float], length: int, seconds: float
) -> list[Dear]:
    """The choices of architecture that cost more than the default and leave the race too few runs.

    Args:
        space: of the race; the first choice of a dimension is the default's.
        usual: the default.
        default: seconds of an optimizer step of it, by itself.
        cost: seconds of an optimizer step of a run with such values, the same.
        length: steps of a whole run.
        seconds: of the race.
    """
    found = []
    for name, choice in _choices(space):
        step = cost({**usual, name: choice})
        if step > default > 0 and _ENOUGH * length * step > seconds:
            found.append(Dear(name, choice, step / default))
    return found


def without(space: Space, dear: Sequence[Dear]) -> Space:
    """The space without these choices."""
    left_out = {(each.name, each.choice) for each in dear}
    kept = {}
    for name, dimension in space.dimensions.items():
        if isinstance(dimension.parameter, Choice):
            choices = tuple(choice for choice in dimension.parameter.choices if (name, choice) not in left_out)
            dimension = Dimension(Choice(choices), dimension.condition)
        kept[name] = dimension
    return Space(kept, space.refusals)


def _choices(space: Space) -> Iterator[tuple[str, str]]:
    """The choices of architecture beside the default's."""
    for name, parameter in space.varied.items():
        if part_of(name) == "architecture" and isinstance(parameter, Choice):
            yield from ((name, choice) for choice in parameter.choices[1:])
