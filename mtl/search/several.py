"""Several methods for one problem, each with the same number of optimizer steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mtl.search.methods import SPECIAL, MethodOptions, find_method, make_options
from mtl.search.space import Space
from mtl.search.tune import tuning_options


def equal_options(
    methods: Sequence[str], trials: int, given: Mapping[str, Any], spaces: Mapping[str, Space]
) -> dict[str, MethodOptions]:
    """The options with which each method makes the steps of `trials` whole runs, or fewer where it stops runs early.

    Args:
        methods: by name.
        trials: whole runs.
        given: options that the user gave; one that is of some methods alone goes to those.
        spaces: what each of them searches.

    Raises:
        ValueError: a method is unknown, cannot make so many runs, or none has a use for an option; one line.
    """
    hears = {method: find_method(method).hears for method in methods}
    for name in SPECIAL & given.keys():
        if not any(name in heard for heard in hears.values()):
            raise ValueError(f"--{name.replace('_', '-')} {given[name]}: {', '.join(methods)} have no use for it")
    found = {}
    for method in methods:
        own = {name: value for name, value in given.items() if name not in SPECIAL or name in hears[method]}
        if method == "grid":
            usual = MethodOptions(members=trials, trials=trials, grid_points=_points(spaces[method], trials, own))
        else:
            cls = find_method(method)
            if trials < cls.fewest:
                raise ValueError(f"--trials {trials}: {method} needs at least {cls.fewest}")
            usual = tuning_options(method, trials)
        kept = {name: value for name, value in own.items() if name not in ("trials", "members")}
        found[method] = make_options(find_method(method), {**dataclasses.asdict(usual), **kept})
    return found


def _points(space: Space, trials: int, given: Mapping[str, Any]) -> int:
    """As many values of each number as the grid has room for."""
    if "grid_points" in given:
        return int(given["grid_points"])
    if (least := space.count(2)) > trials:
        raise ValueError(
            f"grid: the space has {least} points with two values of each number, more than --trials {trials}; name "
            "fewer parameters, or give more --trials"
        )
    points = 2
    while points < trials and space.count(points) < space.count(points + 1) <= trials:
        points += 1
    return points
