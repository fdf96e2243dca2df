"""Delta m: how far a run is from single-task training, in both conventions in print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtl.stats.values import Directions, Metrics, finite

#: (task, metric) pairs.
Names = list[tuple[str, str]]


def comparable_metrics(baseline: Metrics, directions: Directions) -> tuple[Names, Names]:
    """The (task, metric) pairs that delta m can use, and those that it cannot: their baseline is absent, NaN or 0."""
    usable: Names = []
    left_out: Names = []
    for task, metrics in directions.items():
        for metric in metrics:
            value = baseline.get(task, {}).get(metric)
            (usable if finite(value) and value != 0 else left_out).append((task, metric))
    return usable, left_out


def relative_gains(metrics: Metrics, baseline: Metrics, directions: Directions) -> dict[str, dict[str, float | None]]:
    """Improvement on the baseline in percent, by task and metric: 100 (M - B) / |B|, positive where the run is better.

    Metrics whose baseline cannot be used are left out, see `comparable_metrics`. The papers divide by B. For the
    positive metrics that they report, |B| is the same; where B is negative (an R² below zero) it keeps the sign right.

    Args:
        metrics: of the run.
        baseline: of single-task training.
        directions: whether higher is better.
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


def _strict_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
