"""Smaller spaces, for where the time is too short to try everything.

Runs that differ in numbers alone train as one program. What needs programs of its own is dropped first.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

from mtl.auto.clock import shown
from mtl.auto.parts import SIDE_BY_SIDE, part_of
from mtl.search.space import Space
from mtl.search.space.dimension import Condition, Dimension
from mtl.search.space.parameters import Choice

_FEW_STRATEGIES = ("equal", "uncertainty", "famo")
#: What is dropped, in this order.
_SAID = {
    "architecture": "The architecture is left as it is",
    "optimizer": "The optimizer is left as it is, but for its learning rate and schedule",
    "weights": "Of the strategies three are tried at most",
    "losses": "The losses are left as they are",
}


class Narrowed(NamedTuple):
    """A space, and what was dropped to get it.

    Attributes:
        space: that is left.
        dropped: in order.
    """

    space: Space
    dropped: tuple[str, ...] = ()

    @property
    def kinds(self) -> int:
        """How many programs all its choices would need."""
        choices = [
            len(each.parameter.choices)
            for name, each in self.space.dimensions.items()
            if isinstance(each.parameter, Choice) and name not in SIDE_BY_SIDE
        ]
        return math.prod(choices)


def narrowings(space: Space) -> list[Narrowed]:
    """The space, and smaller ones, each without one more thing; all leave something to decide."""
    found = [Narrowed(space)]
    for what in _SAID:
        smaller = _without(found[-1].space, what)
        if smaller.varied and smaller.dimensions != found[-1].space.dimensions:
            found.append(Narrowed(smaller, (*found[-1].dropped, what)))
    return found


def narrowed(space: Space, dropped: Collection[str]) -> Space:
    """The space without what is named."""
    return next(each.space for each in narrowings(space) if {*each.dropped} == {*dropped})


def sentences(dropped: Collection[str], limit: float) -> list[str]:
    """What was dropped, a sentence each.

    Args:
        dropped: names.
        limit: the whole time in seconds.
    """
    return [f"{_SAID[what]}: in {shown(limit)} there is no time to try more." for what in dropped]


def _without(space: Space, what: str) -> Space:
    """The space without one thing, and without what exists beside it alone."""
    if what == "weights":
        return _of_strategies(space)
    names = {name for name in space.dimensions if part_of(name) == what}
    if what == "optimizer":  # what runs of one program may differ in stays
        names = {"optimizer"}
    kept: dict[str, Dimension] = {}
    for name, each in space.dimensions.items():
        if name not in names and (each.condition is None or each.condition.parent in kept):
            kept[name] = each
    return Space(kept)


def _of_strategies(space: Space) -> Space:
    """The space with few strategies, and with the parameters of these."""
    strategy = space.dimensions["strategy"].parameter
    assert isinstance(strategy, Choice)
    few = tuple(each for each in strategy.choices if each in _FEW_STRATEGIES) or strategy.choices[:1]
    kept: dict[str, Dimension] = {}
    for name, each in space.dimensions.items():
        if name == "strategy":
            each = Dimension(Choice(few))
        elif each.condition is not None and each.condition.parent == "strategy":
            there = each.condition.choices & {*few}
            if not there:
                continue
            each = Dimension(each.parameter, Condition("strategy", there))
        kept[name] = each
    return Space(kept)
