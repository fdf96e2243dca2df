"""Curves of runs, averaged over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.report.read import RecordedRun, weighed_losses_of

Array = npt.NDArray[np.float64]


def mean_curve(runs: Sequence[RecordedRun], at: str, what: str, tasks: Sequence[str]) -> tuple[Array, Array] | None:
    """Steps (S,) and values (S, K), the mean at each step over the runs that reached it; None without curves.

    Args:
        runs: of one strategy.
        at: key of the steps in a history.
        what: key of the values, a row of K at each step.
        tasks: which of the history's columns to take, in this order; what it lacks is NaN. The training loss of a task
            whose parts are weighed apart is their sum.
    """
    collected: dict[int, list[list[float]]] = {}
    for run in runs:
        history = run.history() or {}
        steps, values = history.get(at) or [], history.get(what) or []
        columns = _columns(history, what, tasks)
        for step, row in zip(steps, values, strict=False):
            collected.setdefault(int(step), []).append([_entry(row, some) for some in columns])
    if not collected:
        return None
    steps = sorted(collected)
    return np.array(steps, dtype=float), np.array([_mean(np.array(collected[step])) for step in steps])


def _columns(history: Mapping[str, Any], what: str, names: Sequence[str]) -> list[list[int]]:
    """For each name, the columns whose sum it is; none where it is not there."""
    if what == "validation_loss":
        tasks = history.get("tasks") or []
        return [[tasks.index(name)] if name in tasks else [] for name in names]
    owners = weighed_losses_of(history)
    losses, own = [*owners], [*owners.values()]
    return [
        [losses.index(name)]
        if name in losses
        else [k for k, task in enumerate(own) if task == name and what == "train_loss"]
        for name in names
    ]


def _entry(row: Any, columns: Sequence[int]) -> float:
    known = [row[column] for column in columns if isinstance(row, list) and column < len(row)]
    return float("nan") if not known or None in known else float(sum(known))


def _mean(rows: Array) -> Array:
    """Mean over rows without NaN; NaN where nothing is known, without NumPy's warning."""
    known = np.isfinite(rows)
    total = np.where(known, rows, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
