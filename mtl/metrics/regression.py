"""Metrics of numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl.metrics.classification import mean_of, ratio, same_shape
from mtl.metrics.protocol import NAN, Array, Metric, Parts


def _mae(guess: Array, truth: Array) -> float:
    same_shape("mae", guess, truth)
    return float(np.abs(guess - truth).mean())


def _absolute(guess: Array, truth: Array) -> Array:
    same_shape("mae", guess, truth)
    return mean_of(np.abs(guess - truth))


def _rmse(guess: Array, truth: Array) -> float:
    same_shape("rmse", guess, truth)
    return float(np.sqrt(np.square(guess - truth).mean()))


def _squared(guess: Array, truth: Array) -> Array:
    same_shape("rmse", guess, truth)
    return mean_of(np.square(guess - truth))


def _root(summary: Array) -> float:
    return float(np.sqrt(ratio(summary)))


def _r2(guess: Array, truth: Array) -> float:
    """Undefined where all labels are equal."""
    same_shape("r2", guess, truth)
    spread = np.square(truth - truth.mean()).sum()
    return float(1 - np.square(guess - truth).sum() / spread) if truth.min() < truth.max() else NAN


def _spread(guess: Array, truth: Array) -> Array:
    """Number, mean, sum of squares about the mean, sum of squared errors, least and greatest label."""
    same_shape("r2", guess, truth)
    mean = truth.mean()
    about, errors = np.square(truth - mean).sum(), np.square(guess - truth).sum()
    return np.array([truth.size, mean, about, errors, truth.min(), truth.max()], np.float64)


def _spread_of_both(one: Array, other: Array) -> Array:
    """The update of Chan, Golub and LeVeque (1979), which loses no digits where the mean is large."""
    count, apart = one[0] + other[0], other[1] - one[1]
    mean = one[1] + apart * other[0] / count
    about = one[2] + other[2] + apart**2 * one[0] * other[0] / count
    return np.array([count, mean, about, one[3] + other[3], min(one[4], other[4]), max(one[5], other[5])])


def _explained(summary: Array) -> float:
    return float(1 - summary[3] / summary[2]) if summary[4] < summary[5] else NAN


@dataclass(frozen=True)
class _InUnit:
    """A function of predictions and labels that were standardised, in the unit that they had before."""

    function: Callable[[Array, Array], Any]
    std: float
    mean: float

    def __call__(self, guess: Array, truth: Array) -> Any:
        return self.function(guess * self.std + self.mean, truth * self.std + self.mean)


def in_unit(metric: Metric, std: float, mean: float = 0.0, unit: str = "") -> Metric:
    """A metric of a task whose labels were standardised as (label - mean) / std, in the unit that they had before.

    Args:
        metric: of numbers, such as `mae`.
        std: what labels were divided by.
        mean: what was subtracted from them before.
        unit: follows the metric's name: `mae` in `eV` is `mae_eV`.

    Raises:
        ValueError: `std` is not a positive number.
    """
    if not std > 0:
        raise ValueError(f"std={std!r} must be a positive number, by which labels were divided")
    parts = metric.parts and dataclasses.replace(metric.parts, of=_InUnit(metric.parts.of, std, mean))
    name = f"{metric.name}_{unit}" if unit else metric.name
    return dataclasses.replace(metric, name=name, function=_InUnit(metric.function, std, mean), parts=parts)


#: Mean absolute error over all labels.
mae = Metric("mae", _mae, False, 0.0, parts=Parts(_absolute, ratio))
#: Root mean squared error of each output, and the mean of these.
rmse = Metric("rmse", _rmse, False, 0.0, by_output=True, parts=Parts(_squared, _root))
#: Share of the variance that is explained, of each output, and the mean of these.
r2 = Metric("r2", _r2, True, 1.0, by_output=True, parts=Parts(_spread, _explained, _spread_of_both))
