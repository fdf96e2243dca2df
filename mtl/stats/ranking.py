"""Ranks of strategies, and their means over metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from mtl.stats.values import Directions, Key, Metrics, finite


def ranks(values: Mapping[Key, float | None], higher_is_better: bool) -> dict[Key, float]:
    """The rank of each entry, 1 for the best. Ties share the average of their ranks; None (diverged) comes last."""
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
