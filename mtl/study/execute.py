"""Carries out a plan run by run; finished runs are not repeated, and a run that fails does not end the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mtl.benchmarks.benchmark import Benchmark, Splits
from mtl.strategies import make
from mtl.study.plan import Plan, RunPlan
from mtl.study.rundir import RunDirectory
from mtl.train import Result, Settings, Stopped, train

_FINISHED = ("done", "diverged")


class Observer(Protocol):
    """Whoever watches a study: the terminal, the tracker."""

    def begin(self, run: RunPlan, hyperparameters: dict[str, Any]) -> None:
        """A run starts or continues."""

    def progress(self, run: RunPlan, done: int, total: int) -> None:
        """A step was made."""

    def row(self, run: RunPlan, step: int, values: dict[str, float]) -> None:
        """A point of the run's curves."""

    def end(self, run: RunPlan, record: dict[str, Any]) -> None:
        """A run is finished and written."""


@dataclass(frozen=True)
class Setting:
    """What all runs of a study have in common."""

    benchmark: Benchmark
    splits: Splits
    settings: Settings
    device: torch.device


def execute(
    plan: Plan,
    setting: Setting,
    directory: RunDirectory,
    observers: list[Observer],
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train every run of `plan` that `directory` does not hold yet, and return the records of all.

    Raises:
        Stopped: `should_stop` said so; the run in progress is checkpointed.
        OSError: a finished run could not be written; the ones before it are intact.
    """
    records = {record["run"]: record for record in directory.records() if record["status"] in _FINISHED}
    for run in plan.runs:
        if run.name not in records:
            records[run.name] = _execute_one(run, setting, directory, observers, should_stop)
    return [records[run.name] for run in plan.runs]


def _execute_one(
    run: RunPlan,
    setting: Setting,
    directory: RunDirectory,
    observers: list[Observer],
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    strategy = make(run.strategy)
    hyperparameters = {"spec": run.strategy, **strategy.hyperparameters}
    for observer in observers:
        observer.begin(run, hyperparameters)

    def progress(done: int, total: int) -> None:
        for observer in observers:
            observer.progress(run, done, total)

    def row(step: int, values: dict[str, float]) -> None:
        for observer in observers:
            observer.row(run, step, values)

    tasks = [task for task in setting.benchmark.tasks if run.task in (None, task.name)]
    error = None
    try:
        result = train(
            setting.benchmark,
            setting.splits,
            strategy,
            setting.settings,
            seed=run.seed,
            tasks=tasks,
            device=setting.device,
            checkpoint_path=directory.checkpoint(run.name),
            progress=progress,
            observe=row,
            should_stop=should_stop,
        )
    except (Stopped, OSError):
        raise
    except Exception as failure:  # a strategy or a user's model may raise anything; the study records it and goes on
        error = f"{type(failure).__name__}: {failure}"
        result = Result("failed", {}, {}, float("nan"), 0, {}, {}, {})
    record = directory.append(
        {
            "run": run.name,
            "benchmark": setting.benchmark.name,
            "strategy": run.strategy,
            "hyperparameters": strategy.hyperparameters,
            "seed": run.seed,
            "phase": run.phase,
            "task": run.task,
            "metrics": result.metrics,
            "validation": result.validation,
            "cost": result.cost,
            "status": result.status,
            "skipped": result.skipped,
            "best_step": result.best_step,
            "selection": result.selection,
            "error": error,
        },
        result.history,
    )
    for observer in observers:
        observer.end(run, record)
    return record
