"""What the runs of a study have in common: the data they train on, who watches, and what is written of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mtl.benchmarks.benchmark import Benchmark, Splits
from mtl.strategies import make
from mtl.study.plan import RunPlan
from mtl.train import Result, Settings


class Observer(Protocol):
    """Whoever watches a study: the terminal, the tracker.

    A run by itself is begun, moved on and ended. Runs trained together are moved on together, and begun, drawn and
    ended one after another when all are finished.
    """

    def begin(self, run: RunPlan, hyperparameters: dict[str, Any]) -> None:
        """A run starts or continues."""

    def progress(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """A step was made in a run, or in several at once."""

    def row(self, run: RunPlan, step: int, values: dict[str, float]) -> None:
        """A point of the run's curves."""

    def end(self, run: RunPlan, record: dict[str, Any]) -> None:
        """A run is finished and written."""


@dataclass(frozen=True)
class StudySetup:
    """What all runs of a study have in common.

    Attributes:
        one_at_a_time: train each run by itself, where runs that differ in their seed could be trained together.
        tell: called with what a user should know.
    """

    benchmark: Benchmark
    splits: Splits
    settings: Settings
    device: torch.device
    one_at_a_time: bool = False
    tell: Callable[[str], None] = print


def record_of(
    run: RunPlan, result: Result, benchmark: str, error: str | None = None, traceback: str | None = None
) -> dict[str, Any]:
    """What is written of a run.

    Args:
        run: as planned.
        result: what it left.
        benchmark: its name.
        error: what it failed with.
        traceback: the file that holds more of that, within the run directory.
    """
    return {
        "run": run.name,
        "benchmark": benchmark,
        "strategy": run.strategy,
        "hyperparameters": make(run.strategy).hyperparameters,
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
        "error": error or result.reason or None,
        "traceback": traceback,
    }
