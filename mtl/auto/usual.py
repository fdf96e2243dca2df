"""The default as a point of the space, and what another point changes of it."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.benchmarks import Task
from mtl.search.space import Space, Values
from mtl.search.space.parameters import Choice, Number
from mtl.train import Settings

#: Settings without which nothing is done, and where in their range least is.
_NOTHING = {"clip": "high", "dropout": "low", "noise": "low"}


def usual_point(space: Space, settings: Settings) -> Values:
    """The point that is nearest to what the recipe does: its own values, and those that change least.

    Args:
        space: of the race; the first of several choices is the recipe's.
        settings: of the recipe.
    """
    values: Values = {}
    for name, parameter in space.active(values):
        own = getattr(settings, name, None)
        if isinstance(parameter, Choice):
            values[name] = own if own in parameter.choices else parameter.choices[0]
        elif not isinstance(parameter, Number):
            values[name] = parameter.grid(1)[0]
        elif isinstance(own, int | float):
            values[name] = min(max(own, parameter.low), parameter.high)
        else:
            values[name] = getattr(parameter, _NOTHING[name]) if name in _NOTHING else parameter.at(0.5)
    return values


def changes(space: Space, settings: Settings, tasks: Sequence[Task], values: Values) -> Values:
    """What a point changes of the recipe: without values that are its own, and with its strategy.

    Args:
        space: of the race; the first choice of a loss, a model or an architecture is the recipe's.
        settings: of the recipe.
        tasks: of the benchmark. Of a choice that is no loss of a task, such as a parameter, the first is nobody's own.
        values: complete, as of a point of the space.
    """
    parents = {each.condition.parent for name, each in space.dimensions.items() if each.condition and name in values}
    first_is_own = {"model", "architecture", *(f"loss.{task.name}" for task in tasks)}
    kept: Values = {}
    for name, value in values.items():
        parameter = space.dimensions[name].parameter
        own = getattr(settings, name, None)
        first = name in first_is_own and isinstance(parameter, Choice) and not own and value == parameter.choices[0]
        if name == "strategy" or name in parents or not (first or value == own):
            kept[name] = value
    return kept
