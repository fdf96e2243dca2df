"""What is written of a run of a search when it has ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mtl.search.objective import Objective
from mtl.search.space import make_member
from mtl.search.trial import Trial
from mtl.train import Result


@dataclass(frozen=True)
class Heading:
    """What the records of all runs of a search begin with.

    Attributes:
        name: of the search. The names of its runs and its checkpoint begin with it.
        label: the strategy that a report counts its runs for; empty where each counts for its own.
        phase: `search`, `final` or `single_task`.
        task: the only task that its runs train, where they are single-task baselines.
    """

    name: str
    label: str
    phase: str = "search"
    task: str | None = None

    def run_name(self, number: int) -> str:
        """The name of a run in results.jsonl."""
        return f"{self.name}-{number:04d}"


def record_of(
    trial: Trial,
    result: Result,
    *,
    heading: Heading,
    objective: Objective,
    benchmark: str,
    length: int,
    spent: int,
    shards: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's line of results.jsonl, and its curves.

    Args:
        trial: the run.
        result: what its training came to.
        heading: of the search.
        objective: of the search.
        benchmark: name of the benchmark.
        length: steps of a whole run; one that made fewer counts as stopped.
        spent: optimizer steps of all runs of the search together.
        shards: the number of shards, where the living runs are trained in more than one.
    """
    best = trial.best
    values = trial.values if best is None else best.values
    scores = (-math.inf,) * len(objective.names) if best is None else best.scores
    status, reason = result.status, result.reason
    if status == "done" and best is None:
        status, reason = "failed", f"no evaluation gave a finite {' and '.join(objective.names)}"
    if status == "done" and trial.step < length:
        status = "stopped"
    record = {
        "run": heading.run_name(trial.number),
        "benchmark": benchmark,
        "strategy": heading.label or make_member(values, trial.seed).strategy,
        "hyperparameters": values,
        "seed": trial.seed,
        "phase": heading.phase,
        "task": heading.task,
        "search": heading.name,
        "trial": trial.number,
        "objective": objective.natural(scores),
        "metrics": result.metrics,
        **({"metrics_without": result.by_fold} if result.without else {}),
        "validation": result.validation if best is None else best.metrics,
        "cost": {**result.cost, "steps": trial.step},
        "informed": trial.informed,
        "spent": spent,
        "shards": shards,
        "status": status,
        "skipped": result.skipped,
        "best_step": 0 if best is None else best.step,
        "best_trial": trial.number if best is None else best.trial,
        "selection": result.selection if best is None else best.selection,
        "error": reason or None,
    }
    evaluations = {
        "search_step": [step for step, _, _ in trial.curve],
        "search_spent": [spent for _, spent, _ in trial.curve],
        "search_scores": [list(scores) for _, _, scores in trial.curve],
    }
    return record, {**result.written, **evaluations}
