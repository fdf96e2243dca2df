"""Which runs a study consists of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtl.benchmarks.apart import tasks_of_losses
from mtl.benchmarks.benchmark import Benchmark
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from mtl.train.learning import check_learning


@dataclass(frozen=True)
class RunPlan:
    """One training run: phase `final` trains all tasks by a strategy, `single_task` one task alone."""

    phase: str
    strategy: str
    seed: int
    task: str | None = None

    @property
    def name(self) -> str:
        """A file name that tells runs apart: readable, and with a digest where the spec had to be shortened."""
        subject = self.task or self.strategy
        plain = re.sub(r"[^a-z0-9.=-]+", "-", subject.lower()).strip("-")[:60]
        if plain != subject:
            plain += "-" + hashlib.sha256(subject.encode()).hexdigest()[:6]
        return f"{self.phase}-{plain}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """The runs of a study, in the order in which they are carried out."""

    runs: tuple[RunPlan, ...]


def parse_strategies(specs: Sequence[str], benchmark: Benchmark | None) -> list[Strategy]:
    """The strategies of a study, each once.

    Args:
        specs: as they were written.
        benchmark: has the losses that each must be able to weigh; None where these are not known yet.

    Raises:
        ValueError: a spec cannot be read, does not fit the losses, or stands twice.
    """
    losses = None if benchmark is None else tasks_of_losses(benchmark.tasks)
    strategies: list[Strategy] = []
    for spec in specs:
        strategy = make(spec)
        if benchmark is not None and losses is not None:
            strategy.check_tasks(len(losses))
            check_learning(benchmark.tasks, strategy)
        if strategy in strategies:
            raise ValueError(f"strategy {str(strategy)!r} is given twice")
        strategies.append(strategy)
    return strategies


def usual_reference(strategies: Sequence[Strategy]) -> Strategy:
    """What the others are compared with where nobody says: equal weights if they take part, or else the first."""
    equal = make("equal")
    return equal if equal in strategies else strategies[0]


def compare_plan(benchmark: Benchmark, strategies: Sequence[Any], seeds: Sequence[int], single: bool) -> Plan:
    """Single-task baselines first, then seed by seed every strategy or variant, so that an early look is a fair one.

    With one task there are no baselines: every strategy trains that task alone.
    """
    single = single and len(benchmark.tasks) > 1
    runs = [RunPlan("single_task", "equal", seed, task.name) for seed in seeds for task in benchmark.tasks if single]
    runs += [RunPlan("final", str(strategy), seed) for seed in seeds for strategy in strategies]
    return Plan(tuple(runs))
