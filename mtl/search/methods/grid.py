from __future__ import annotations

from typing import ClassVar

from mtl.search.methods.method import Method, Problem, Start
from mtl.search.methods.waves import Waves
from mtl.search.options import MethodOptions

_MOST = 10_000  # runs


class Grid(Waves):
    """Every combination of a few values of each parameter, each trained to the end."""

    name: ClassVar[str] = "grid"
    about: ClassVar[str] = "every combination of a few values of each parameter"
    several: ClassVar[bool] = True
    hears: ClassVar[frozenset[str]] = frozenset({"grid_points"})

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        Method.__init__(self, problem, options)
        most = _MOST if options.trials is None else options.trials
        if (count := problem.space.count(options.grid_points)) > most:
            limit = f"the {most} that are trained unasked" if options.trials is None else f"--trials {most}"
            raise ValueError(
                f"grid: the space has {count} points, more than {limit}; name fewer parameters, or give another "
                "--grid-points or --trials"
            )
        self._points = problem.space.grid(options.grid_points)
        self.trials, self.told, self.started = len(self._points), [], 0

    def propose(self, count: int) -> list[Start]:
        return [Start(values) for values in self._points[self.started : self.started + count]]
