"""Our side of `mtl bench search`: PBT as one population, with all its files but the report."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mtl.bench.search_problem import RANGES, STRATEGY, Size, SmallProblem
from mtl.search.cohort import MakeCohort
from mtl.search.methods import MethodOptions
from mtl.search.objective import Objective
from mtl.search.plan import make_search
from mtl.search.search import Search
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import open_run_directory
from mtl.study.setup import StudySetup
from mtl.train import Settings
from mtl.train.allocator import keep_freed_memory


def make_setting(size: Size) -> StudySetup:
    """What all members share."""
    benchmark = SmallProblem()
    # Runs are evaluated after each interval, as Ray's are, and not after each epoch as well.
    chosen = {"steps": size.steps, "evaluate_every": size.steps, "model": size.model, "batch_size": size.batch_size}
    return StudySetup(benchmark, benchmark.load(), Settings.of(benchmark.recipe, chosen), torch.device("cpu"))


def pbt(setting: StudySetup, size: Size, make_cohort: MakeCohort | None = None) -> Search:
    """The search."""
    ranges = [f"{name}={low}:{high}:log" for name, (low, high) in RANGES.items()]
    ranges.append("strategy.uncertainty.start=default")
    space = build_space(setting.benchmark, [STRATEGY], read_options(ranges))
    options = MethodOptions(members=size.members, interval=size.interval)
    objective = Objective(["selection"], setting.benchmark)
    return make_search(setting, "pbt", options, space, objective, 0, make_cohort=make_cohort)


def main(size: Size) -> None:
    """Carry out the search and print the best score."""
    keep_freed_memory()
    setting = make_setting(size)
    search = pbt(setting, size)
    with open_run_directory(Path(size.folder), resume=True) as directory:
        search.run(directory, setting.benchmark.name)
    best = search.best
    print(best[1].scores[0] if best else "nan")


if __name__ == "__main__":
    main(Size.read(sys.argv[1]))
