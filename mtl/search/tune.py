"""Tuning before comparing: every strategy gets the same budget of trials over its own space, then fresh seeds."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from mtl.benchmarks.benchmark import Benchmark
from mtl.files.lineage import Stage, read_events, winner, winning_line
from mtl.search.cohort import MakeCohort
from mtl.search.methods import MethodOptions, find_method
from mtl.search.objective import SELECTION, Objective
from mtl.search.plan import make_search
from mtl.search.replay import repeated
from mtl.search.search import Search
from mtl.search.space import Space
from mtl.search.space.build import SETTINGS, build_space, set_by
from mtl.search.space.grammar import Listed
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from mtl.study.plan import RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.study.variant import Variant
from mtl.train.heads import HEADS


def tuning_options(method: str, budget: int) -> MethodOptions:
    """The options with which a method starts `budget` trials.

    Raises:
        ValueError: the method does not start a number of trials that can be given.
    """
    if method == "grid":
        raise ValueError(f"--tune {method}: the number of its trials cannot be given; random takes one")
    cls = find_method(method)
    if budget < cls.fewest:
        raise ValueError(f"--budget {budget}: {method} needs at least {cls.fewest}")
    if cls.copies:
        return MethodOptions(members=budget)
    return MethodOptions(members=cls.members_for(budget), trials=budget)


def make_tuning(
    setting: StudySetup,
    compared: Strategy | Variant,
    method: str,
    budget: int,
    seeds: Sequence[int],
    make_cohort: MakeCohort,
    task: str | None = None,
    written: Sequence[str] = (),
) -> Search:
    """The search of a strategy or variant over its own hyperparameters, the learning rate and weight decay.

    Its seeds come after the `seeds` of the comparison, so that what is tuned on is not what is reported. A single-task
    baseline is tuned in the same way: `setting` is that of `task` alone, and the strategy equal weights.

    Raises:
        ValueError: an unknown method, or a budget that does not fit it.
    """
    seed = max(seeds) + 1
    return make_search(
        setting,
        method,
        tuning_options(method, budget),
        tuned_space(setting.benchmark, compared, written),
        Objective([SELECTION], setting.benchmark),
        seed,
        name=RunPlan("search" if task is None else "search_single_task", str(compared), seed, task).name,
        label=str(compared),
        make_cohort=make_cohort,
        task=task,
    )


def tuned_space(benchmark: Benchmark, compared: Strategy | Variant, written: Sequence[str] = ()) -> Space:
    """What is tuned of a strategy, or of a variant: its own hyperparameters, those of its losses, and the usual ones.

    What a variant varies has one value there.

    Args:
        benchmark: has the tasks.
        compared: what is tuned.
        written: the specs of strategies as the user wrote them; what they set is not tuned.

    Raises:
        ValueError: a search cannot set what is varied.
    """
    base = compared.base if isinstance(compared, Variant) else str(compared)
    said = set_by([spec for spec in written if str(make(spec)) == base])
    if not isinstance(compared, Variant):
        return build_space(benchmark, [str(compared)], {}, said)
    for name in compared.settings:
        if name not in SETTINGS and not name.startswith(HEADS):
            raise ValueError(f"--vary {name}: it is one value for all runs that are tuned; leave --tune or --vary out")
    fixed = {name: Listed((text,), where="--vary") for name, text in compared.texts.items()}
    return build_space(benchmark, [compared.strategy], fixed, said)


def of_one_task(setting: StudySetup, task: str) -> StudySetup:
    """The same setting for a single-task baseline: a benchmark that has this task alone."""
    benchmark = copy.copy(setting.benchmark)
    benchmark.tasks = tuple(each for each in benchmark.tasks if each.name == task)
    return dataclasses.replace(setting, benchmark=benchmark, settings=setting.settings.of_tasks([task]))


def tune_and_rerun(
    make: Callable[[], Search],
    make_cohort: MakeCohort,
    seeds: Sequence[int],
    directory: RunDirectory,
    carry_out: Callable[[Callable[[], Search]], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Carry out the search of a strategy, a variant or a single-task baseline, then train its winner under `seeds`.

    Returns the records of the runs under `seeds`.

    A strategy of which no trial survives is rerun as its spec has it, with the settings of the comparison.

    Args:
        make: gives the search, as often as it is begun or gone on with.
        make_cohort: trains the winner's schedule.
        seeds: of the comparison.
        directory: where `carry_out` writes.
        carry_out: runs what it is given the maker of.
    """
    records = carry_out(make)
    search = make()
    best = winner(records, search.objective.higher_is_better())
    stages = [Stage(0, 0, 0, search.problem.space.constants)]
    if best is not None:
        stages = winning_line(read_events(directory.schedule_path, search.name), best)

    phase = "final" if search.task is None else "single_task"

    def final() -> Search:
        return Search(
            RunPlan(phase, search.label, search.problem.seed, search.task).name,
            search.label,
            repeated(search.problem, stages, seeds),
            search.problem,
            search.objective,
            make_cohort,
            phase=phase,
            tell=search.tell,
            task=search.task,
        )

    return carry_out(final)
