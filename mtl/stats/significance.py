"""Tests of a strategy against another over common seeds, and of several at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mtl.stats.intervals import Interval, mean_interval
from mtl.stats.values import Key, finite

_MIN_WILCOXON = 6  # with five pairs the smallest two-sided p-value is 1/16: no outcome could be significant
_ROUNDING = 1e-12  # spread below this share of the values is rounding, not evidence


@dataclass(frozen=True)
class Paired:
    """A strategy against the reference over common seeds.

    Attributes:
        difference: mean of strategy - reference with its interval.
        p_value: of the paired t-test; None with fewer than two pairs.
        wilcoxon_p: of the signed-rank test; None with fewer than six pairs.
        effect_size: Cohen's d_z, mean over standard deviation of the differences; None when they do not vary.
        spread: standard deviation of the differences; None with fewer than two pairs, or where they do not vary.
        of_examples: share of the variance of the mean that is due to the choice of examples; None where the test is
            over seeds alone.
    """

    difference: Interval
    p_value: float | None
    wilcoxon_p: float | None
    effect_size: float | None
    spread: float | None = None
    of_examples: float | None = None


def paired(values: Mapping[Key, float | None], reference: Mapping[Key, float | None]) -> Paired:
    """Compare by seed, so that what the seed does to both (initialisation, batches) cancels.

    Two-sided paired t-test (Student 1908) and Wilcoxon's signed-rank test (1945); effect size d_z (Cohen 1988, section
    2.3.5). The t-test is undefined where the differences have no spread. It then gives p = 1: equal runs are no
    evidence, and a constant shift over two or three seeds must not pass for certainty.

    Args:
        values: of the strategy, by seed; None is left out.
        reference: of the reference strategy, by seed.
    """
    common = [seed for seed in values if finite(values[seed]) and finite(reference.get(seed))]
    ours = np.array([values[seed] for seed in common], dtype=float)
    theirs = np.array([reference[seed] for seed in common], dtype=float)
    differences = ours - theirs
    interval = mean_interval(differences.tolist())
    if len(common) < 2:
        return Paired(interval, None, None, None)
    spread = float(differences.std(ddof=1))
    scale = float(max(np.abs(ours).max(), np.abs(theirs).max()))
    identical = bool(np.abs(differences).max() <= _ROUNDING * scale)
    signed_rank = None
    if len(common) >= _MIN_WILCOXON:
        # Rounded first: differences that are equal on paper must be ties, as SciPy's documentation warns.
        signed_rank = 1.0 if identical else float(stats.wilcoxon(np.round(differences / scale, 12)).pvalue)
    if spread <= _ROUNDING * scale:
        return Paired(interval, 1.0, signed_rank, 0.0 if identical else None)
    t_test = float(stats.ttest_rel(ours, theirs).pvalue)
    return Paired(interval, t_test, signed_rank, float(differences.mean()) / spread, spread)


def holm(p_values: Mapping[Key, float | None]) -> dict[Key, float | None]:
    """Adjusted p-values that control the family-wise error rate (Holm, Scandinavian Journal of Statistics 1979).

    In ascending order p̃_(i) = max_{j ≤ i} min(1, (m - j + 1) p_(j)); None stays None and does not count in m.
    """
    ordered = sorted((p, place, key) for place, (key, p) in enumerate(p_values.items()) if p is not None)
    adjusted: dict[Key, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for index, (p, _, key) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - index) * p))
        adjusted[key] = highest
    return adjusted
