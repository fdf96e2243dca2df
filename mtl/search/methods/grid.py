from __future__ import annotations

from typing import ClassVar

from mtl.search.methods.method import Method, Options, Problem, Start
from mtl.search.methods.waves import Waves


class Grid(Waves):
    """Every combination of a few values a parameter, trained to the end."""

    name: ClassVar[str] = "grid"
    about: ClassVar[str] = "every combination of a few values of each parameter"
    several: ClassVar[bool] = True

    def __init__(self, problem: Problem, options: Options) -> None:
        Method.__init__(self, problem, options)
        self._points = problem.space.grid(options.grid_points)
        if options.trials is not None and len(self._points) > options.trials:
            raise ValueError(
                f"grid: the space has {len(self._points)} points, more than --trials {options.trials}; "
                "name fewer parameters, or give --grid-points"
            )
        self.trials, self.told, self.started = len(self._points), [], 0

    def propose(self, count: int) -> list[Start]:
        return [Start(values) for values in self._points[self.started : self.started + count]]
