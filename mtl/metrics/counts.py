"""Metrics of counts that are predicted by the logarithm of their mean, as count losses want."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl.metrics.classification import mean_of, ratio, same_shape
from mtl.metrics.protocol import Array, Metric, Parts


def _deviances(guess: Array, truth: Array) -> Array:
    same_shape("poisson_deviance", guess, truth)
    if (truth < 0).any():
        raise ValueError(f"poisson_deviance takes labels that are not negative: here is {truth[truth < 0][0]:g}")
    logarithm = np.log(np.where(truth > 0, truth, 1.0))
    return mean_of(2 * (truth * (logarithm - guess) - truth + _means(guess)))


def _means(guess: Array) -> Array:
    """What logarithms stand for; infinite for those of a model that has gone astray."""
    with np.errstate(over="ignore"):
        return np.exp(guess)


@dataclass(frozen=True)
class _OfMeans:
    """A function of predictions and labels, of predictions that are logarithms."""

    function: Callable[[Array, Array], Any]

    def __call__(self, guess: Array, truth: Array) -> Any:
        return self.function(_means(guess), truth)


def of_counts(metric: Metric) -> Metric:
    """A metric of numbers, such as `mae`, of counts whose predictions are the logarithms of their means.

    Args:
        metric: of numbers; `mae` becomes `count_mae`, in counts.
    """
    parts = metric.parts and dataclasses.replace(metric.parts, of=_OfMeans(metric.parts.of))
    name = f"count_{metric.name}"
    return dataclasses.replace(metric, name=name, function=_OfMeans(metric.function), parts=parts, logarithms=True)


#: Mean Poisson deviance 2 (y log(y / m) - y + m) of counts y and their predicted means m = e^prediction; it is smallest
#: where each m is the mean of the counts (McCullagh & Nelder, Generalized Linear Models 1989, section 2.3).
poisson_deviance = Metric(
    "poisson_deviance", Parts(_deviances, ratio), False, 0.0, parts=Parts(_deviances, ratio), logarithms=True
)
