"""Curves of runs, averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.report.read import RecordedRun

Array = npt.NDArray[np.float64]


def mean_curve(runs: Sequence[RecordedRun], at: str, what: str, tasks: Sequence[str]) -> tuple[Array, Array] | None:
    """Steps (S,) and values (S, K), the mean at each step over the runs that reached it; None without curves.

    Args:
        runs: of one strategy.
        at: key of the steps in a history.
        what: key of the values, a row of K at each step.
        tasks: which of the history's columns to take, in this order; a task it lacks is NaN.
    """
    collected: dict[int, list[list[float]]] = {}
    for run in runs:
        history = run.history() or {}
        steps, values, names = history.get(at) or [], history.get(what) or [], history.get("tasks") or []
        columns = [names.index(task) if task in names else None for task in tasks]
        for step, row in zip(steps, values, strict=False):
            collected.setdefault(int(step), []).append([_entry(row, column) for column in columns])
    if not collected:
        return None
    steps = sorted(collected)
    return np.array(steps, dtype=float), np.array([_mean(np.array(collected[step])) for step in steps])


def _entry(row: Any, column: int | None) -> float:
    value = None if column is None or not isinstance(row, list) or column >= len(row) else row[column]
    return float("nan") if value is None else float(value)


def _mean(rows: Array) -> Array:
    """Mean over rows without NaN; NaN where nothing is known, without NumPy's warning."""
    known = np.isfinite(rows)
    total = np.where(known, rows, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
