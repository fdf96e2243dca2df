from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mtl.search.methods.method import Problem, Start, random_starts
from mtl.search.methods.waves import Waves
from mtl.search.options import MethodOptions
from mtl.search.space import Values
from mtl.search.space.parameters import Number

if TYPE_CHECKING:
    from cmaes import CMA

_SPREAD = 0.3  # standard deviation at the start, as a share of each range
_STREAM = 6  # of the generator


class CMAES(Waves):
    """Covariance matrix adaptation evolution strategy (Hansen & Ostermeier, Evolutionary Computation 2001), by the
    package `cmaes`. A wave of runs is a generation.

    It searches the unit cube. A number has one coordinate, on a logarithmic scale where the number has one. Each weight
    on the simplex has one. A choice has one that is cut into equal parts, so that neighbours in its list count as
    similar. A parameter that exists only beside some choices has its coordinate all the time. Only the ranks of scores
    count, so runs that broke are the worst. The distribution is made anew for each wave, from the points and ranks of
    those before.
    """

    name: ClassVar[str] = "cmaes"
    waves: ClassVar[int] = 4
    fewest: ClassVar[int] = 4  # of which half are parents
    about: ClassVar[str] = "covariance matrix adaptation (Hansen & Ostermeier 2001)"

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        from cmaes import CMA  # brings SciPy, which who only wants to know what there is spares

        self._cma = CMA
        probe = _Coordinates()
        for name, parameter in problem.space.varied.items():
            parameter.suggest(probe, name)
        self._names = list(probe.shares)
        self._points: list[list[float]] = []

    def propose(self, count: int) -> list[Start]:
        if not self._names:
            return random_starts(self.problem, count, self.started)
        distribution = self._distribution()
        distribution.reseed_rng(int(self.problem.rng(_STREAM, self.started).integers(2**31)))
        informed, starts = len(self.told) >= self.options.members, []
        for _ in range(count):
            point: list[float] = []
            values = self.space.accepted(partial(self._drawn, distribution, point))
            starts.append(Start(values, informed=informed))
            self._points.append(point)
        return starts

    def _drawn(self, distribution: CMA, point: list[float]) -> Values:
        """The values at a point of the distribution, which is written into `point`."""
        point[:] = distribution.ask().tolist()
        return self.space.suggest(_Coordinates(dict(zip(self._names, point, strict=True))))

    def _distribution(self) -> CMA:
        size, members = len(self._names), self.options.members
        cube = np.tile([0.0, 1.0], (size, 1))
        distribution = self._cma(np.full(size, 0.5), _SPREAD, bounds=cube, population_size=members, seed=0)
        for begin in range(0, len(self.told) - members + 1, members):
            scores = [scores[0] for _, scores in self.told[begin : begin + members]]
            ranks = np.argsort(np.argsort(np.negative(scores), kind="stable"), kind="stable")
            points = map(np.array, self._points[begin : begin + members])
            distribution.tell(list(zip(points, ranks.tolist(), strict=True)))
        return distribution

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "points": self._points}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self._points = [list(point) for point in saved["points"]]


class _Coordinates:
    """What a parameter asks for its value, at a point of the unit cube; notes the coordinates that are asked for.

    Args:
        shares: by name; the middle for those that are not given.
    """

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        self.shares = dict(shares or {})

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(Number(low, high, log).at(self._share(name)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(Number(low, high, log, integer=True).at(self._share(name)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[min(int(self._share(name) * len(choices)), len(choices) - 1)]

    def _share(self, name: str) -> float:
        return self.shares.setdefault(name, 0.5)
