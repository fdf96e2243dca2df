"""The runs of a study as W&B runs, and its report as one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.study.plan import RunPlan
from mtl.tracking.client import Tracker


class StudyTracker:
    """Logs the runs of a study: a W&B run for each. The points of its curves are logged at the training step.

    Args:
        tracker: logs.
        benchmark: name of the benchmark.
    """

    def __init__(self, tracker: Tracker, benchmark: str) -> None:
        self._tracker, self._benchmark = tracker, benchmark

    def begin(self, run: RunPlan, hyperparameters: dict[str, Any]) -> None:
        """Open the run."""
        self._tracker.begin(
            run.name,
            job_type=run.phase.replace("_", "-"),
            tags=[self._benchmark, run.task or run.strategy],
            config={**hyperparameters, "seed": run.seed},
        )

    def progress(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """Steps are not logged one by one."""

    def learning(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """Nor are those of losses before training."""

    def row(self, run: RunPlan, step: int, values: dict[str, float]) -> None:
        """Log a point of the curves."""
        self._tracker.row(run.name, step, values)

    def end(self, run: RunPlan, record: dict[str, Any]) -> None:
        """Close the run with its results."""
        end_run(self._tracker, run.name, record)


def end_run(tracker: Tracker, name: str, record: Mapping[str, Any]) -> None:
    """Close a W&B run with what was recorded of it."""
    values = _flat("test", record["metrics"]) | _flat("holdout", record.get("holdout") or {})
    values |= {f"cost/{key}": x for key, x in record["cost"].items()}
    values |= {f"objective/{key}": x for key, x in record.get("objective", {}).items()}
    values |= {key: record[key] for key in ("status", "selection", "best_step")}
    tracker.summary(name, values)
    tracker.end(name, failed=record["status"] in ("diverged", "failed"))


def _flat(split: str, metrics: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    return {f"{split}/{task}/{key}": x for task, values in metrics.items() for key, x in values.items()}


def log_decision(tracker: Tracker, directory: Path, benchmark: str) -> None:
    """Log the figures of a decision as a run of its own."""
    name = _begin_report(tracker, directory, benchmark)
    tracker.images(name, 0, figures(directory))
    tracker.end(name)


def _begin_report(tracker: Tracker, directory: Path, benchmark: str) -> str:
    """The name of the run that a report is logged as."""
    name = f"report-{directory.resolve().name}"  # the tasks of an array, each with its directory, are one study
    tracker.begin(name, job_type="report", tags=[benchmark], config={})
    return name


def log_report(tracker: Tracker, directory: Path, benchmark: str, summary: Mapping[str, Any]) -> None:
    """Log the report of a comparison as a run of its own: the ranking as a table, the figures as images."""
    name = _begin_report(tracker, directory, benchmark)
    entries = {spec: summary["strategies"][spec] for spec in summary["ranking"]}
    gains = {spec: entry["delta_m"]["gain_over_tasks"] for spec, entry in entries.items()}
    columns = {
        "strategy": [*entries],
        **{key: [entry[key] for entry in entries.values()] for key in ("runs", "diverged", "failed")},
        "delta_m": [gain["mean"] for gain in gains.values()],
        "delta_m_low": [gain["low"] for gain in gains.values()],
        "delta_m_high": [gain["high"] for gain in gains.values()],
        "mean_rank": [entry["mean_rank"]["mean"] for entry in entries.values()],
        "p_adjusted": [entry["p_adjusted"] for entry in entries.values()],
    }
    tracker.table(name, 0, "ranking", [*columns], [*zip(*columns.values(), strict=True)])
    tracker.images(name, 0, figures(directory))
    tracker.summary(
        name,
        {
            "best": summary["ranking"][0],
            "runs": sum(columns["runs"]),
            "failures": sum(columns["diverged"]) + sum(columns["failed"]),
            **{f"delta_m/{spec}": gain["mean"] for spec, gain in gains.items()},
            **{f"mean_rank/{spec}": entry["mean_rank"]["mean"] for spec, entry in entries.items()},
        },
    )
    tracker.end(name)


def figures(directory: Path) -> dict[str, Path]:
    """The figures of a report by the name under which they are logged."""
    return {f"figures/{path.stem}": path for path in sorted((directory / "figures").glob("*.png"))}
