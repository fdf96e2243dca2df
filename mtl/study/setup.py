"""What the runs of a study have in common: the data they train on, who watches, and what is written of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from mtl.benchmarks.apart import tasks_of_losses
from mtl.benchmarks.benchmark import Benchmark, Splits
from mtl.benchmarks.losses import fitted, with_losses
from mtl.strategies import make
from mtl.study.plan import RunPlan
from mtl.study.variant import Variant
from mtl.train import Result, Settings, check_model
from mtl.train.job import check_together
from mtl.train.processes import Processes


class Observer(Protocol):
    """Whoever watches a study: the terminal, the tracker.

    A run by itself is begun, moved on and ended. Runs trained together are moved on together, and begun, drawn and
    ended one after another when all are finished.
    """

    def begin(self, run: RunPlan, hyperparameters: dict[str, Any]) -> None:
        """A run starts or continues."""

    def progress(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """A step was made in a run, or in several at once."""

    def learning(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """Losses of a run, or of several at once, have learned for a while before training: so many of their steps."""

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
        processes: that train each run together; None for this one alone.
        variants: by label; what a run counts for is one of them, or a strategy's spec.
        folds: of the test split, without each of which its runs are measured too; see `mtl.train.Cohort.results`.
    """

    benchmark: Benchmark
    splits: Splits
    settings: Settings
    device: torch.device
    one_at_a_time: bool = False
    tell: Callable[[str], None] = print
    processes: Processes | None = None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    folds: int = 0

    def of(self, run: RunPlan) -> StudySetup:
        """The setting of one run: with the losses and training settings of its variant."""
        variant = self.variants.get(run.strategy)
        if variant is None:
            return self
        benchmark = fitted(with_losses(self.benchmark, variant.losses), self.splits)
        return dataclasses.replace(self, benchmark=benchmark, settings=variant.over(self.settings))

    def strategy(self, run: RunPlan) -> str:
        """The spec of a run's strategy."""
        variant = self.variants.get(run.strategy)
        return run.strategy if variant is None else variant.strategy

    def hyperparameters(self, run: RunPlan) -> dict[str, Any]:
        """What is recorded of a run: the values of its strategy, and what its variant varies."""
        variant = self.variants.get(run.strategy)
        return make(run.strategy).hyperparameters if variant is None else variant.hyperparameters

    def with_variants(self, variants: Sequence[Variant]) -> StudySetup:
        """The same setting for a comparison of `variants`, each of which is tried on a few examples.

        Raises:
            ValueError: one does not fit the data; one line that names it.
        """
        setting = dataclasses.replace(self, variants={variant.label: variant for variant in variants})
        for variant in variants:
            try:
                tried = setting.of(RunPlan("final", variant.label, 0))
                make(variant.strategy).check_tasks(len(tasks_of_losses(tried.benchmark.tasks)))
                check_together(tried.settings, make(variant.strategy), tried.benchmark.tasks)
                check_model(tried.benchmark, self.splits, tried.settings)
            except ValueError as error:
                raise ValueError(f"--vary, {variant}: {error}") from error
        return setting


def record_of(
    run: RunPlan, result: Result, setting: StudySetup, error: str | None = None, traceback: str | None = None
) -> dict[str, Any]:
    """What is written of a run.

    Args:
        run: as planned.
        result: what it left.
        setting: of the study.
        error: what it failed with.
        traceback: the file that holds more of that, within the run directory.
    """
    without = {"metrics_without": result.by_fold} if result.without else {}
    return {
        "run": run.name,
        "benchmark": setting.benchmark.name,
        "strategy": run.strategy,
        "hyperparameters": setting.hyperparameters(run),
        "seed": run.seed,
        "phase": run.phase,
        "task": run.task,
        "metrics": result.metrics,
        **without,
        "validation": result.validation,
        "cost": result.cost,
        "status": result.status,
        "skipped": result.skipped,
        "best_step": result.best_step,
        "selection": result.selection,
        "error": error or result.reason or None,
        "traceback": traceback,
    }
