"""A comparison that holds for other seeds and for other examples alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from mtl.stats.intervals import Interval
from mtl.stats.significance import Paired, paired
from mtl.stats.values import Key, finite

#: Into how many folds examples are divided for the jackknife.
FOLDS = 20

#: Of each seed, the values without each fold of the examples in turn.
Without = Mapping[Key, Sequence[float | None]]


def paired_over_examples(
    values: Mapping[Key, float | None],
    reference: Mapping[Key, float | None],
    without: Without[Key],
    reference_without: Without[Key],
) -> Paired:
    """Compare by seed, where the examples on which all are measured are a sample too.

    Over seeds alone, two methods that are equally good differ on most samples of examples, and the more seeds there are
    the surer that looks. Seeds and examples are crossed here, as readers and cases are in studies of diagnostic tests,
    whose test this is (Obuchowski & Rockette 1995; degrees of freedom of Hillis 2007): the variance of the mean
    difference is s²/n over the n seeds, and what the differences under unlike seeds have in common over examples, the
    mean covariance of two of them, by the jackknife over folds of the examples.

    Args:
        values: of the strategy, by seed; None is left out.
        reference: of the reference strategy, by seed.
        without: of the strategy, by seed (G,): without each of G folds of the examples, the same folds for all.
        reference_without: of the reference strategy.

    Returns:
        What `paired` returns, with the 95 % interval and the p-value for seeds and examples, and `of_examples`. Where
        some value without a fold is unknown, or there are fewer than two seeds, it is that of seeds alone.
    """
    found = paired(values, reference)
    common = [seed for seed in values if finite(values[seed]) and finite(reference.get(seed))]
    moved = _differences(without, reference_without, common)
    mean, count = found.difference.mean, len(common)
    if moved is None or mean is None or count < 2:
        return found
    if found.spread is None:  # not less certain of being equal, and as much one of those that are tested
        return replace(found, of_examples=0.0)
    folds = moved.shape[1]
    around = moved - moved.mean(1, keepdims=True)
    covariance = (folds - 1) / folds * around @ around.T
    shared = max(0.0, float(covariance.sum() - covariance.trace()) / (count * (count - 1)))
    over_seeds = found.spread**2 / count
    total = over_seeds + shared
    freedom = total**2 / (over_seeds**2 / (count - 1))
    error = math.sqrt(total)
    # No surer than seeds alone, as the larger degrees of freedom would be where examples add next to nothing.
    half = max(float(stats.t.ppf(0.975, freedom)) * error, found.difference.half_width or 0.0)
    p_value = max(2 * float(stats.t.sf(abs(mean) / error, freedom)), found.p_value or 0.0)
    return replace(
        found,
        difference=Interval(mean, mean - half, mean + half, count),
        p_value=p_value,
        of_examples=shared / total,
    )


def _differences(
    without: Without[Key], reference_without: Without[Key], seeds: Sequence[Key]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """The differences (n, G) without each fold; None where some are unknown."""
    rows = []
    for seed in seeds:
        ours, theirs = without.get(seed, ()), reference_without.get(seed, ())
        if len(ours) < 2 or len(ours) != len(theirs) or not all(map(finite, [*ours, *theirs])):
            return None
        rows.append(np.subtract(np.array(ours, dtype=float), np.array(theirs, dtype=float)))
    if len({len(row) for row in rows}) != 1:
        return None
    return np.stack(rows)
