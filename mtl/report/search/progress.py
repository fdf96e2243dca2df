"""How good the best run of a search is, by the steps that all its runs have made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtl.report.search.summary import SearchRun


class SearchProgress(NamedTuple):
    """Every evaluation of every run, in the order in which they were made.

    Attributes:
        spent: steps that all runs of the search had made by then.
        values: the first objective.
        best: the best value so far.
    """

    spent: np.ndarray
    values: np.ndarray
    best: np.ndarray


def progress(search: SearchRun) -> SearchProgress | None:
    """That of the first objective; None where nothing finite was evaluated."""
    higher = next(iter(search.objective.values()))
    sign = 1 if higher else -1
    points = sorted(
        (spent, sign * scores[0])
        for run in search.runs
        if (history := run.history())
        for spent, scores in zip(history.get("search_spent", ()), history.get("search_scores", ()), strict=False)
        if scores[0] is not None
    )
    if not points:
        return None
    spent, values = (np.array(column) for column in zip(*points, strict=True))
    return SearchProgress(spent, values, (np.maximum if higher else np.minimum).accumulate(values))
