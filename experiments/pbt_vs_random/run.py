"""Does population-based training beat the best of random search at equal training cost?

Both train the same number of runs for the same number of steps, begin with the same values and seeds, and choose their
winner by the mean skill on validation data. The winners are compared on test data, repetition by repetition.

    python experiments/pbt_vs_random/run.py [--benchmark multidigits] [--members 16] [--epochs 20] [--repetitions 5]

It writes results.json beside the runs, in --out, and prints the table of README.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from mtl.benchmarks import find_benchmark, load_checked
from mtl.files.lineage import winner
from mtl.search.methods import MethodOptions
from mtl.search.objective import Objective
from mtl.search.plan import make_search
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.stats import mean_interval, paired
from mtl.study.rundir import open_run_directory
from mtl.study.setup import StudySetup
from mtl.train import Settings
from mtl.train.evaluate import constant_metrics, selection

METHODS = ("pbt", "random")
SPACE = ["lr=1e-4:3e-2:log", "weight_decay=1e-6:1e-2:log", "dropout=0:0.5", "noise=0:0.3"]


@dataclass
class Arguments:
    """What can be set."""

    benchmark: str = "multidigits"
    strategy: str = "static"
    members: int = 16
    epochs: int = 20
    schedule: str = "constant"
    repetitions: int = 5
    out: str = "runs/pbt_vs_random"


def main(arguments: Arguments) -> dict[str, Any]:
    """Run all repetitions, those of earlier calls included, and return what README.md shows."""
    benchmark = find_benchmark(arguments.benchmark)
    settings = Settings.of(
        getattr(benchmark, "recipe", {}), {"epochs": arguments.epochs, "schedule": arguments.schedule}
    )
    setting = StudySetup(benchmark, load_checked(benchmark), settings, torch.device("cpu"))
    reference = constant_metrics(benchmark.tasks, setting.splits.train, setting.splits.test)
    scores: dict[str, dict[str, dict[int, float]]] = {m: {"validation": {}, "test": {}} for m in METHODS}
    costs: dict[str, int] = dict.fromkeys(METHODS, 0)
    for repetition in range(arguments.repetitions):
        for method in METHODS:
            folder = Path(arguments.out) / f"{method}-{repetition}"
            best, steps = search(setting, method, arguments, 1000 * repetition, folder)
            scores[method]["validation"][repetition] = best["selection"]
            scores[method]["test"][repetition] = selection(benchmark.tasks, best["metrics"], reference)
            costs[method] += steps
            print(f"{method:<6}  repetition {repetition}  test skill {scores[method]['test'][repetition]:.4f}")
    return summarize(scores, costs, Path(arguments.out))


def search(
    setting: StudySetup, method: str, arguments: Arguments, seed: int, folder: Path
) -> tuple[dict[str, Any], int]:
    """The record of one search's winner, and the steps that all of its runs made."""
    space = build_space(setting.benchmark, [arguments.strategy], read_options(SPACE))
    objective = Objective(["selection"], setting.benchmark)
    options = MethodOptions(members=arguments.members)
    made = make_search(setting, method, options, space, objective, seed)
    with open_run_directory(folder, resume=True) as directory:
        records = made.run(directory, setting.benchmark.name)
    best = winner(records, objective.higher_is_better())
    if best is None:
        raise RuntimeError(f"{folder}: no run was trained to its end")
    return dict(best), made.totals.steps


def summarize(scores: dict[str, dict[str, dict[int, float]]], costs: dict[str, int], out: Path) -> dict[str, Any]:
    """Print the table and write results.json."""
    found: dict[str, Any] = {"scores": scores, "steps": costs}
    for split in ("validation", "test"):
        print(f"\nmean skill on {split} data")
        for method in METHODS:
            interval = mean_interval(list(scores[method][split].values()))
            half = 0.0 if interval.half_width is None else interval.half_width
            print(f"  {method:<6}  {interval.mean:.4f} ± {half:.4f}   {costs[method]} steps")
        test = paired(scores["pbt"][split], scores["random"][split])
        found[split] = {"difference": test.difference.mean, "p_value": test.p_value, "effect_size": test.effect_size}
        p = "–" if test.p_value is None else f"{test.p_value:.3f}"
        print(f"  pbt − random: {test.difference.mean:+.4f}, paired t-test p = {p}")
    (out / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def parse() -> Arguments:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Arguments):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    return Arguments(**vars(parser.parse_args()))


if __name__ == "__main__":
    main(parse())
