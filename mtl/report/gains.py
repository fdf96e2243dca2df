"""Gains of the runs of a study over its baseline, on all test examples and without each fold of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mtl.report.read import RecordedRun, Study
from mtl.stats import Directions, Interval, Metrics, delta_m_over_tasks, mean_interval


def judged(study: Study) -> Directions:
    """The metrics that Δm and ranks go by."""
    if len(study.directions) > 1:
        return study.directions
    return {task: {study.primary[task]: metrics[study.primary[task]]} for task, metrics in study.directions.items()}


def baseline_of(study: Study) -> tuple[Metrics, str | None]:
    """Mean single-task metrics; without single-task runs the reference strategy's own, so that changes can be shown."""
    single = [run for run in study.of("single_task") if run.done]
    if single:
        return _mean_metrics(single, study), "single_task"
    reference = [run for run in study.of("final", study.reference) if run.done]
    return _mean_metrics(reference, study), "reference" if reference else None


def baselines_without_each_seed(study: Study) -> list[Metrics]:
    """The single-task baseline with each of its seeds left out in turn, which tells how sure the baseline itself is."""
    single = [run for run in study.of("single_task") if run.done]
    seeds = sorted({run.seed for run in single})
    return (
        [_mean_metrics([run for run in single if run.seed != left], study) for left in seeds] if len(seeds) > 1 else []
    )


def _mean_metrics(runs: Sequence[RecordedRun], study: Study) -> Metrics:
    return {
        task: {metric: entry["mean"] for metric, entry in metrics.items()}
        for task, metrics in intervals_of(runs, study).items()
    }


def intervals_of(runs: Sequence[RecordedRun], study: Study) -> dict[str, dict[str, dict[str, Any]]]:
    """Of the runs that finished: what a diverged run leaves is no result."""
    return {
        task: {
            metric: plain_interval(mean_interval([run.metrics.get(task, {}).get(metric) for run in runs if run.done]))
            for metric in metrics
        }
        for task, metrics in study.directions.items()
    }


def delta_m_by_seed(runs: Sequence[RecordedRun], baseline: Metrics, study: Study) -> dict[int, float | None]:
    return {run.seed: delta_m_over_tasks(run.metrics, baseline, judged(study)) if run.done else None for run in runs}


def gains_without_folds(study: Study) -> dict[str, dict[int, list[float | None]]]:
    """By strategy and seed, delta m over tasks without each fold of the test split in turn, baseline and all.

    Empty where a run that counts was not measured in this way: by an earlier version, or on few examples.
    """
    counted = [run for phase in ("final", "single_task") for run in study.of(phase) if run.done]
    folds = {len(values) for run in counted for by_name in run.without.values() for values in by_name.values()}
    if len(folds) != 1 or not all(run.without.keys() == run.metrics.keys() for run in counted):
        return {}
    found: dict[str, dict[int, list[float | None]]] = {
        spec: {run.seed: [] for run in study.of("final", spec) if run.done} for spec in study.strategies
    }
    for fold in range(folds.pop()):
        others = dataclasses.replace(study, runs=[_without(run, fold) for run in study.runs])
        baseline, _ = baseline_of(others)
        for spec, by_seed in found.items():
            gains = delta_m_by_seed(others.of("final", spec), baseline, others)
            for seed, values in by_seed.items():
                values.append(gains[seed])
    return found


def _without(run: RecordedRun, fold: int) -> RecordedRun:
    """A run with the metrics that it has without a fold."""
    metrics = {task: {name: each[fold] for name, each in values.items()} for task, values in run.without.items()}
    return dataclasses.replace(run, record={**run.record, "metrics": metrics})


def plain_interval(interval: Interval) -> dict[str, Any]:
    """An interval as plain values, for summary.json."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
