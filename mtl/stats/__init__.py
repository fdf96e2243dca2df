"""Statistics of a comparison over seeds: intervals, delta m, mean ranks, paired tests.

None stands for a number that cannot be given (no run, one seed, an undefined metric); nothing here returns NaN.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

import numpy as np
from scipy import stats

Metrics = Mapping[str, Mapping[str, float | None]]
Directions = Mapping[str, Mapping[str, bool]]
Names = list[tuple[str, str]]
Key = TypeVar("Key", bound=Hashable)

_MIN_WILCOXON = 6  # with five pairs the smallest two-sided p-value is 1/16: no outcome could be significant
_ROUNDING = 1e-12  # spread below this share of the values is rounding, not evidence


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
    """Mean of changes on a baseline that is itself a mean over seeds, with an interval that covers both spreads.

    The variance of the mean is s²/n over the runs, plus the jackknife's (m - 1)/m Σ_j (θ_j - θ̄)² over the baseline's
    seeds (Tukey 1958; Efron & Tibshirani 1993, eq. 11.5); t has Welch and Satterthwaite's degrees of freedom.

    Args:
        values: the change of each run; None is left out.
        without_each: the mean of the changes with the baseline's seed j left out, for each j. With fewer than two the
            baseline's spread is unknown, and this is `mean_interval`.
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


def comparable_metrics(baseline: Metrics, directions: Directions) -> tuple[Names, Names]:
    """The (task, metric) pairs that delta m can use, and those left out because their baseline is absent, NaN or 0."""
    usable: Names = []
    left_out: Names = []
    for task, metrics in directions.items():
        for metric in metrics:
            value = baseline.get(task, {}).get(metric)
            (usable if finite(value) and value != 0 else left_out).append((task, metric))
    return usable, left_out


def relative_gains(metrics: Metrics, baseline: Metrics, directions: Directions) -> dict[str, dict[str, float | None]]:
    """Improvement on the baseline in percent, 100 (M - B) / |B|, signed so that positive is better.

    Metrics that `comparable_metrics` leaves out do not occur. The papers divide by B; |B| is the same for the
    positive metrics they report, and keeps the sign right where B is negative (an R² below zero).
    """
    gains: dict[str, dict[str, float | None]] = {}
    for task, metric in comparable_metrics(baseline, directions)[0]:
        value, base = metrics.get(task, {}).get(metric), baseline[task][metric]
        gain = None
        if finite(value) and finite(base):
            gain = (1 if directions[task][metric] else -1) * 100 * (value - base) / abs(base)
        gains.setdefault(task, {})[metric] = gain
    return gains


def delta_m_over_metrics(metrics: Metrics, baseline: Metrics, directions: Directions) -> float | None:
    """Delta m as a *drop* in percent, over all metrics alike: **lower is better**.

    Δm = 100/N Σ_n (-1)^{δ_n} (M_n - B_n) / B_n with δ_n = 1 where higher is better, over the N metrics of all tasks, as
    reported by CAGrad (Liu et al., NeurIPS 2021), Nash-MTL (Navon et al., ICML 2022, section 6), FAMO and FairGrad.
    A task with more metrics weighs more. None when a metric of the run is not finite.
    """
    gains = [gain for task in relative_gains(metrics, baseline, directions).values() for gain in task.values()]
    mean = _strict_mean(gains)
    return None if mean is None else -mean


def delta_m_over_tasks(metrics: Metrics, baseline: Metrics, directions: Directions) -> float | None:
    """Delta m as a *gain* in percent, every task alike: **higher is better**.

    Δ = 100/T Σ_t 1/N_t Σ_n (-1)^{p_tn} (M_tn - B_tn) / B_tn with p = 1 where lower is better: Δ_p of Lin et al. (RLW,
    TMLR 2022) and LibMTL (JMLR 2023); with one metric a task, Δ_MTL of Maninis et al. (CVPR 2019, eq. 4) and of
    Vandenhende et al. (TPAMI 2021). None when a metric of the run is not finite.
    """
    per_task = [_strict_mean(list(task.values())) for task in relative_gains(metrics, baseline, directions).values()]
    return _strict_mean(per_task)


def ranks(values: Mapping[Key, float | None], higher_is_better: bool) -> dict[Key, float]:
    """Rank of each entry, 1 = best; ties share the average of their ranks, and None (diverged) comes last."""
    sign = -1 if higher_is_better else 1
    badness = [sign * value if finite(value) else math.inf for value in values.values()]
    return dict(zip(values, (float(rank) for rank in stats.rankdata(badness)), strict=True))


def mean_ranks(runs: Mapping[Key, Metrics | None], directions: Directions) -> dict[Key, float]:
    """Mean over all metrics of the ranks within one seed: MR of Nash-MTL (Navon et al., ICML 2022), lower is better.

    Args:
        runs: test metrics of each strategy under one seed; None for a run that diverged or failed.
        directions: of each task's metrics, whether higher is better.
    """
    collected: dict[Key, list[float]] = {key: [] for key in runs}
    for task, metrics in directions.items():
        for metric, higher_is_better in metrics.items():
            values = {key: None if run is None else run.get(task, {}).get(metric) for key, run in runs.items()}
            for key, rank in ranks(values, higher_is_better).items():
                collected[key].append(rank)
    return {key: float(np.mean(found)) for key, found in collected.items() if found}


@dataclass(frozen=True)
class Paired:
    """A strategy against the reference over common seeds.

    Attributes:
        difference: mean of strategy - reference with its interval.
        p_value: of the paired t-test; None with fewer than two pairs.
        wilcoxon_p: of the signed-rank test; None with fewer than six pairs.
        effect_size: Cohen's d_z, mean over standard deviation of the differences; None when they do not vary.
    """

    difference: Interval
    p_value: float | None
    wilcoxon_p: float | None
    effect_size: float | None


def paired(values: Mapping[Key, float | None], reference: Mapping[Key, float | None]) -> Paired:
    """Compare by seed, so that what the seed alone does to both (initialisation, batches) cancels.

    Two-sided paired t-test (Student 1908) and Wilcoxon's signed-rank test (1945); effect size d_z (Cohen 1988,
    section 2.3.5). Differences without any spread give p = 1 in the t-test, which is undefined there: equal runs are no
    evidence, and a constant shift over two or three seeds must not pass for certainty.
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
    return Paired(interval, t_test, signed_rank, float(differences.mean()) / spread)


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


def finite(value: float | None) -> TypeGuard[float]:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def _strict_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
