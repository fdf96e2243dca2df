"""How good the best run of a search is, by the steps that all its runs have made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl.report.read import RecordedRun


class SearchProgress(NamedTuple):
    """Every evaluation of every run, in the order in which they were made.

    Attributes:
        spent: steps that all runs of the search had made by then.
        values: the first objective.
        trials: numbers of the runs.
        best: the best value so far.
    """

    spent: np.ndarray
    values: np.ndarray
    trials: np.ndarray
    best: np.ndarray


def progress(runs: Sequence[RecordedRun], *, higher: bool) -> SearchProgress | None:
    """That of the first objective; None where nothing finite was evaluated.

    Args:
        runs: of the search.
        higher: whether more of the objective is better.
    """
    sign = 1 if higher else -1
    points = sorted(
        (spent, sign * scores[0], run.record["trial"])
        for run in runs
        if (history := run.history())
        for spent, scores in zip(history.get("search_spent", ()), history.get("search_scores", ()), strict=False)
        if scores[0] is not None
    )
    if not points:
        return None
    spent, values, trials = (np.array(column) for column in zip(*points, strict=True))
    return SearchProgress(spent, values, trials, (np.maximum if higher else np.minimum).accumulate(values))
