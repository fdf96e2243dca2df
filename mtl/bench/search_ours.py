"""Our side of `mtl bench search`: PBT as one population, with all its files but the report."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mtl.bench.search_problem import RANGES, STRATEGY, Size, SmallProblem
from mtl.search.build import build_space
from mtl.search.grammar import read_options
from mtl.search.methods import Options
from mtl.search.objective import Objective
from mtl.search.plan import make_search
from mtl.study.rundir import open_run_directory
from mtl.study.setting import Setting
from mtl.train import Settings


def main(size: Size) -> None:
    """Carry out the search and print the best score."""
    benchmark = SmallProblem()
    # Runs are evaluated after each interval, as Ray's are, and not after each epoch as well.
    settings = Settings.of(benchmark.recipe, {"steps": size.steps, "evaluate_every": size.steps})
    setting = Setting(benchmark, benchmark.load(), settings, torch.device("cpu"))
    ranges = [f"{name}={low}:{high}:log" for name, (low, high) in RANGES.items()]
    ranges.append("strategy.uncertainty.start=default")
    space = build_space(benchmark, [STRATEGY], read_options(ranges))
    options = Options(members=size.members, interval=size.interval)
    search = make_search(setting, "pbt", options, space, Objective(["selection"], benchmark), 0)
    with open_run_directory(Path(size.folder), resume=True) as directory:
        search.run(directory, benchmark.name)
    best = search.best
    print(best[1][0] if best else "nan")


if __name__ == "__main__":
    main(Size.read(sys.argv[1]))
