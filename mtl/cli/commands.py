"""What each command does."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from mtl.benchmarks import find_benchmark
from mtl.cli.checks import read_comparison, read_training
from mtl.cli.errors import BadInput
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.outcome import at_work, exit_code, report_comparison
from mtl.cli.shared import make_config, make_setting, run_directory, tell
from mtl.cli.size import check_size
from mtl.cli.terminal import Terminal
from mtl.search.plan import cohort_maker
from mtl.study.execute import execute
from mtl.study.plan import Plan, RunPlan, compare_plan
from mtl.study.rundir import RunDirectory
from mtl.study.setting import Setting
from mtl.tracking import StudyTracker, Tracker
from mtl.train import Member, Stopped


def bench(args: argparse.Namespace) -> int:
    """`mtl bench`."""
    from mtl.cli.bench import bench as measure  # brings the peers' own packages, SciPy first

    return measure(args)


def train(args: argparse.Namespace) -> int:
    """`mtl train`."""
    try:
        benchmark = find_benchmark(args.benchmark)
        strategy = read_training(args, benchmark)
        setting = make_setting(args, benchmark)
    except ValueError as error:
        raise BadInput(str(error)) from error
    plan = Plan((RunPlan("final", str(strategy), args.seed),))
    config = make_config(args, setting, [strategy], [args.seed], strategy)
    return _carry_out(args, plan, setting, config)


def compare(args: argparse.Namespace) -> int:
    """`mtl compare`."""
    try:
        benchmark = find_benchmark(args.benchmark)
        asked = read_comparison(args, benchmark)
        setting = make_setting(args, benchmark)
        if not args.one_at_a_time:
            members = (Member(str(asked.reference), seed) for seed in asked.seeds)
            check_size("--seeds", args.seeds, members, cohort_maker(setting), setting.device, tell)
    except ValueError as error:
        raise BadInput(str(error)) from error
    plan = compare_plan(setting.benchmark, asked.strategies, asked.seeds, single=not args.no_single_task)
    config = make_config(args, setting, asked.strategies, asked.seeds, asked.reference)
    if args.tune is not None:
        from mtl.cli.tuning import compare_tuned  # brings the search methods

        return compare_tuned(args, plan, setting, config, asked.strategies)
    return _carry_out(args, plan, setting, config)


def _carry_out(args: argparse.Namespace, plan: Plan, setting: Setting, config: dict[str, Any]) -> int:
    with run_directory(args, config) as (directory, recorded), at_work(args.command, directory):
        return _in_directory(args, plan, setting, recorded, directory)


def _in_directory(
    args: argparse.Namespace, plan: Plan, setting: Setting, config: dict[str, Any], directory: RunDirectory
) -> int:
    name = setting.benchmark.name
    finished = len({record["run"] for record in directory.records()} & {run.name for run in plan.runs})
    terminal = Terminal(plan, finished, quiet=args.quiet)
    with contextlib.ExitStack() as closing:
        tracker = closing.enter_context(Tracker(args.wandb, directory.path, config, tell))
        try:
            with stop_on_signals() as should_stop, terminal:
                records = execute(plan, setting, directory, [terminal, StudyTracker(tracker, name)], should_stop)
        except Stopped:
            tell(f"stopped; the same command with --resume --out {directory.path} continues")
            return 75
        report_comparison(directory, name, tracker, closing)
    return exit_code([record for record in records if record["phase"] == "final"], directory.path)
