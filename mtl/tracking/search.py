"""A search as one W&B run: after each segment the best and the mean score, and the values of the best run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mtl.search.engine import Search
from mtl.study.plan import RunPlan
from mtl.tracking.client import Tracker


class SearchTracker:
    """An observer of a search that logs through a tracker.

    Args:
        tracker: of the study.
        seed: of the search.
    """

    def __init__(self, tracker: Tracker, seed: int) -> None:
        self._tracker, self._seed = tracker, seed
        self._run: RunPlan | None = None

    def segment(self, search: Search) -> None:
        """Log a point; the step is the number of optimizer steps of all runs."""
        if self._run is None:
            strategies = search.label or search.problem.space.dimensions["strategy"].parameter.describe()
            self._run = RunPlan("search", strategies, self._seed)
            self._tracker.begin(self._run, {"method": search.method.name})
        spent = search.tally.steps
        now = [trial.curve[-1][2][0] for trial in search.trials if trial.curve and trial.curve[-1][1] == spent]
        finite = [score for score in now if math.isfinite(score)]
        row = {"runs/alive": float(len(search.alive)), "exploits": float(search.tally.exploits)}
        if finite:
            row["score/mean"] = sum(finite) / len(finite)
        if search.best is not None:
            trial, scores = search.best
            row["score/best"] = scores[0]
            row |= {f"best/{name}": float(value) for name, value in trial.values.items() if _number(value)}
        self._tracker.row(self._run, spent, row)

    def trial(self, search: Search, record: dict[str, Any]) -> None:
        """Runs of a search are rows of one W&B run, not runs of their own."""

    def close(self, best: Mapping[str, Any] | None) -> None:
        """Close the run with the results of the winner."""
        if self._run is not None:
            empty = {"metrics": {}, "cost": {}, "status": "failed"}
            self._tracker.end(self._run, dict(best) if best is not None else empty)
            self._run = None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
