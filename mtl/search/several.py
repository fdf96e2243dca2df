"""Several methods for one problem, each with the same number of optimizer steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.search.methods import SPECIAL, Method, MethodOptions, find_method
from mtl.search.space import Space
from mtl.search.tune import tuning_options

_MOST_RUNS = 20  # times as many as are trained whole


def equal_options(
    methods: Sequence[str],
    trials: int,
    given: Mapping[str, Any],
    spaces: Mapping[str, Space],
    make: Callable[[str, MethodOptions], Method],
) -> dict[str, MethodOptions]:
    """The options with which each method makes about the steps of `trials` whole runs.

    One that stops runs early begins more of them, as many as are expected to take these steps.

    Args:
        methods: by name.
        trials: whole runs.
        given: options that the user gave; one that is of some methods alone goes to those.
        spaces: what each of them searches.
        make: makes a method with its options.

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
            found[method] = _over(usual, own)
        else:
            found[method] = _filled(method, trials, own, make)
    return found


def _over(usual: MethodOptions, own: Mapping[str, Any]) -> MethodOptions:
    """The usual options under those that the user gave, but for the number of runs."""
    return dataclasses.replace(usual, **{name: own[name] for name in own if name not in ("trials", "members")})


def _filled(
    method: str, trials: int, own: Mapping[str, Any], make: Callable[[str, MethodOptions], Method]
) -> MethodOptions:
    """As many runs as have room in the steps of `trials` whole ones."""
    cls = find_method(method)
    if trials < cls.fewest:
        raise ValueError(f"--trials {trials}: {method} needs at least {cls.fewest}")
    chosen = _over(tuning_options(method, trials), own)
    for more in range(trials, _MOST_RUNS * trials):
        options = _over(tuning_options(method, more), own)
        made = make(method, options)
        if made.expected_work > trials * made.problem.length:
            break
        chosen = options
    return chosen


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
