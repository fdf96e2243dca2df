"""The kinds of things a search varies: numbers, choices, and weights on the simplex."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Protocol

import numpy as np

Generator = np.random.Generator
_FACTORS = (0.8, 1.2)  # of Jaderberg et al. 2017
_LOG_WIDTH = 4.0  # of the logarithm of a weight: where most of its flat distribution lies
_SMALLEST_WEIGHT = 1e-3  # a weight of zero would stay there under every factor


class Suggester(Protocol):
    """What a parameter asks of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


class Parameter(ABC):
    """What one dimension of a space can be. All random numbers come from a generator that is handed in."""

    @abstractmethod
    def sample(self, rng: Generator) -> Any:
        """A value drawn from the whole range."""

    @abstractmethod
    def perturbed(self, value: Any, rng: Generator) -> Any:
        """A value near `value`, within bounds."""

    @abstractmethod
    def mutated(self, value: Any, rng: Generator, spread: float) -> Any:
        """`value` with Gaussian noise, within bounds.

        Args:
            value: in the range.
            rng: draws the noise.
            spread: its standard deviation, as a share of the range.
        """

    @abstractmethod
    def place(self, value: Any) -> tuple[float, ...]:
        """Where `value` lies: the absolute differences between two places have a sum from 0 to 1."""

    @abstractmethod
    def grid(self, points: int) -> list[Any]:
        """The values that a grid search tries: `points` of a number, fewer where it has fewer, or all choices."""

    def count(self, points: int) -> int:
        """The number of values that `grid` returns; quick, also where they are many."""
        return len(self.grid(points))

    @abstractmethod
    def suggest(self, trial: Suggester, name: str) -> Any:
        """A value that Optuna picks."""

    @abstractmethod
    def describe(self) -> str:
        """The range in the words of the command line."""


@dataclass(frozen=True)
class Number(Parameter):
    """A number between two bounds, both included, drawn uniformly or uniformly in its logarithm.

    With `integer` it is a whole number k. It gets the part of the scale from k - 1/2 to k + 1/2, also at the bounds, so
    that on a linear scale all are equally likely.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def sample(self, rng: Generator) -> Any:
        return self.at(float(rng.random()))

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1] of the way from low to high."""
        low, high = self._ends
        value = low + min(max(share, 0.0), 1.0) * (high - low)
        return self._inside(math.exp(value) if self.log else value)

    def share(self, value: Any) -> float:
        """Where `value` lies, in [0, 1]: the inverse of `at`."""
        low, high = self._ends
        return (self._on_scale(value) - low) / (high - low)

    @property
    def _ends(self) -> tuple[float, float]:
        margin = 0.5 if self.integer else 0.0
        return self._on_scale(self.low - margin), self._on_scale(self.high + margin)

    def _on_scale(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def perturbed(self, value: Any, rng: Generator) -> Any:
        factor = _FACTORS[int(rng.integers(2))]
        if self.low <= 0 and not self.integer:  # a factor changes little near zero and never leaves it
            return self._inside(value + (factor - 1) * (self.high - self.low) / 2)
        moved = self._inside(value * factor)
        if moved == value and self.integer:  # 0.8 and 1.2 leave an integer of 1 or 2 where it is
            moved = self._inside(value + (1 if factor > 1 else -1))
        return moved

    def mutated(self, value: Any, rng: Generator, spread: float) -> Any:
        return self.at(self.share(value) + spread * float(rng.normal()))

    def place(self, value: Any) -> tuple[float, ...]:
        return (self.share(value),)

    def grid(self, points: int) -> list[Any]:
        if self.integer:
            points = min(points, round(self.high - self.low) + 1)
        values = [self.at((k + 0.5) / points) for k in range(points)]
        if self.integer:  # the small integers of a logarithmic scale have room for several points
            for k in range(1, points):
                values[k] = max(values[k], values[k - 1] + 1)
            for k in range(points):
                values[k] = min(values[k], round(self.high) - (points - 1 - k))
        return list(dict.fromkeys(values))

    def count(self, points: int) -> int:
        return min(points, round(self.high - self.low) + 1) if self.integer else points

    def suggest(self, trial: Suggester, name: str) -> Any:
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def describe(self) -> str:
        return f"{_written(self.low)}:{_written(self.high)}" + (":log" if self.log else "")

    def _inside(self, value: float) -> Any:
        if self.integer:
            value = math.floor(value + 0.5)  # `round` takes halves to even integers, which would be likelier
        value = min(max(value, self.low), self.high)
        return int(value) if self.integer else float(value)


@dataclass(frozen=True)
class Choice(Parameter):
    """One of several values that have no order. With one value it is a constant."""

    choices: tuple[Any, ...]

    def sample(self, rng: Generator) -> Any:
        return self.choices[int(rng.integers(len(self.choices)))]

    def perturbed(self, value: Any, rng: Generator) -> Any:  # noqa: ARG002
        return value  # choices have no neighbours: they change when resampled

    def mutated(self, value: Any, rng: Generator, spread: float) -> Any:  # noqa: ARG002
        return self.sample(rng)

    def place(self, value: Any) -> tuple[float, ...]:
        return tuple(0.5 * (choice == value) for choice in self.choices)

    def grid(self, points: int) -> list[Any]:  # noqa: ARG002
        return list(self.choices)

    def suggest(self, trial: Suggester, name: str) -> Any:
        return self.choices[trial.suggest_categorical(name, tuple(range(len(self.choices))))]

    def describe(self) -> str:
        return ",".join(map(str, self.choices))


def _written(value: float) -> str:
    """A number in the fewest digits that it is read back from."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


@dataclass(frozen=True)
class Simplex(Parameter):
    """Weights that sum to one: a tuple of `size`, drawn from the flat Dirichlet distribution."""

    size: int

    def sample(self, rng: Generator) -> tuple[float, ...]:
        return self._scaled(rng.exponential(size=self.size))

    def perturbed(self, value: Any, rng: Generator) -> tuple[float, ...]:
        return self._scaled(np.array(value) * np.array(_FACTORS)[rng.integers(2, size=self.size)])

    def mutated(self, value: Any, rng: Generator, spread: float) -> tuple[float, ...]:
        """Noise on the logarithm of each weight."""
        return self._scaled(np.array(value) * np.exp(_LOG_WIDTH * spread * rng.normal(size=self.size)))

    def place(self, value: Any) -> tuple[float, ...]:
        return tuple(weight / 2 for weight in value)

    def grid(self, points: int) -> list[tuple[float, ...]]:
        """The points inside the simplex of a lattice that cuts each edge into `points` + `size` - 1 parts."""
        steps = points + self.size - 1
        bars = ((0, *cuts, steps) for cuts in combinations(range(1, steps), self.size - 1))
        return [tuple((end - begin) / steps for begin, end in pairwise(bar)) for bar in bars]

    def count(self, points: int) -> int:
        return math.comb(points + self.size - 2, self.size - 1)

    def suggest(self, trial: Suggester, name: str) -> tuple[float, ...]:
        return self.from_shares([trial.suggest_float(f"{name}[{k}]", 1e-6, 1 - 1e-6) for k in range(self.size)])

    def from_shares(self, shares: Sequence[float]) -> tuple[float, ...]:
        """The weights that belong to `size` numbers in (0, 1).

        If those are independent and uniform, the weights have the flat Dirichlet distribution.
        """
        return self._scaled(-np.log(shares))  # exponential variables, scaled, are flat on the simplex

    def describe(self) -> str:
        return "simplex"

    @staticmethod
    def _scaled(weights: np.ndarray) -> tuple[float, ...]:
        weights = np.maximum(weights / weights.sum(), _SMALLEST_WEIGHT)
        return tuple(float(weight) for weight in weights / weights.sum())
