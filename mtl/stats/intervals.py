"""Means over seeds with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mtl.stats.values import finite


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; `low` and `high` are None with fewer than two values."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """The number after the ±."""
        return None if self.high is None or self.mean is None else self.high - self.mean


def mean_interval(values: Sequence[float | None], confidence: float = 0.95) -> Interval:
    """Mean with Student's t-interval, mean ± t_{n-1, (1+c)/2} s / √n (Student, Biometrika 1908); None is left out.

    It covers the spread over seeds (initialisation, batches, noise) on one test set, not the choice of test set.
    """
    known = np.array([value for value in values if finite(value)], dtype=float)
    n = len(known)
    if n == 0:
        return Interval(None, None, None, 0)
    mean = float(known.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * known.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def interval_against(
    values: Sequence[float | None], without_each: Sequence[float | None], confidence: float = 0.95
) -> Interval:
    """The mean of changes on a baseline that is itself a mean over seeds, with an interval that covers both spreads.

    The variance of the mean has two parts: s²/n over the runs, and the jackknife's (m - 1)/m Σ_j (θ_j - θ̄)² over the m
    seeds of the baseline (Tukey 1958; Efron & Tibshirani 1993, eq. 11.5). Student's t has Welch and Satterthwaite's
    degrees of freedom.

    Args:
        values: (n,) the change of each run; None is left out.
        without_each: (m,) for each seed j of the baseline, the mean of the changes on a baseline without that seed.
            With
            fewer than two, the baseline's spread is unknown, and the result is that of `mean_interval`.
        confidence: of the interval.
    """
    own = mean_interval(values, confidence)
    moved = np.array([value for value in without_each if finite(value)], dtype=float)
    if own.mean is None or own.n < 2 or len(moved) < 2:
        return own
    known = np.array([value for value in values if finite(value)], dtype=float)
    m = len(moved)
    parts = [(float(known.var(ddof=1)) / own.n, own.n - 1), (float(moved.var()) * (m - 1), m - 1)]
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return own
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(total)
    return Interval(own.mean, own.mean - half, own.mean + half, own.n)
