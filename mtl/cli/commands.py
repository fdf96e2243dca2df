"""What each command does."""

from __future__ import annotations

import contextlib
import dataclasses

from mtl.benchmarks import find_benchmark
from mtl.benchmarks.reading import ReadFailed
from mtl.cli.checks import read_comparison, read_training
from mtl.cli.errors import BadInput, Failed
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.options import BenchOptions, CompareOptions, RunOptions, TrainOptions
from mtl.cli.outcome import at_work, exit_code, report_comparison
from mtl.cli.shared import make_config, make_setting, run_directory, tell
from mtl.cli.size import check_size
from mtl.cli.terminal import Terminal
from mtl.cli.torchrun import check_divided, joined, take_gpu
from mtl.files.config import Config
from mtl.search.plan import cohort_maker
from mtl.study.execute import execute
from mtl.study.follow import follow
from mtl.study.plan import Plan, RunPlan, compare_plan
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.tracking import StudyTracker, Tracker
from mtl.train import Member, Stopped
from mtl.train.processes import ProcessLost


def bench(options: BenchOptions) -> int:
    """`mtl bench`."""
    from mtl.cli.bench import bench as measure  # brings the peers' own packages, SciPy first

    return measure(options)


def train(options: TrainOptions) -> int:
    """`mtl train`."""
    try:
        take_gpu(options.device)
        benchmark = find_benchmark(options.subject)
        strategy = read_training(options, benchmark)
        setting = make_setting(options, benchmark)
        check_divided(strategy, setting)
    except ValueError as error:
        raise BadInput(str(error)) from error
    plan = Plan((RunPlan("final", str(strategy), options.seed),))
    config = make_config(options, setting, [strategy], [options.seed], strategy)
    with joined(setting.device.type) as processes:
        if processes is None:
            return _carry_out(options, plan, setting, config)
        return _together(options, plan, dataclasses.replace(setting, processes=processes), config)


def _together(options: TrainOptions, plan: Plan, setting: StudySetup, config: Config) -> int:
    """Train a run with other processes, of which the leading one does what a process alone would do."""
    processes, (run,) = setting.processes, plan.runs
    assert processes is not None
    try:
        if processes.leads:
            return _carry_out(options, plan, setting, config)
        with stop_on_signals() as should_stop:
            return 75 if follow(run, setting, should_stop) else 0
    except ProcessLost as error:
        raise Failed(str(error)) from error
    except ReadFailed as error:  # of the leading one it is in the record
        raise Failed(f"process {processes.rank} of {processes.size}: {error}") from error


def compare(options: CompareOptions) -> int:
    """`mtl compare`."""
    try:
        benchmark = find_benchmark(options.subject)
        asked = read_comparison(options, benchmark)
        setting = make_setting(options, benchmark).with_variants(asked.variants)
        if not options.one_at_a_time:
            run = RunPlan("final", str(asked.reference), options.seed)
            members = (Member(setting.strategy(run), seed) for seed in asked.seeds)
            check_size("--seeds", options.seeds, members, cohort_maker(setting.of(run)), setting.device, tell)
    except ValueError as error:
        raise BadInput(str(error)) from error
    compared = asked.variants or asked.strategies
    plan = compare_plan(setting.benchmark, compared, asked.seeds, single=not options.no_single_task)
    config = make_config(options, setting, compared, asked.seeds, asked.reference)
    if options.tune is not None:
        from mtl.cli.tuning import compare_tuned  # brings the search methods

        return compare_tuned(options, plan, setting, config, compared)
    return _carry_out(options, plan, setting, config)


def _carry_out(options: RunOptions, plan: Plan, setting: StudySetup, config: Config) -> int:
    with run_directory(options, setting, config) as (directory, recorded), at_work(options.command, directory):
        return _in_directory(options, plan, setting, recorded, directory)


def _in_directory(options: RunOptions, plan: Plan, setting: StudySetup, config: Config, directory: RunDirectory) -> int:
    name = setting.benchmark.name
    finished = len({record["run"] for record in directory.records()} & {run.name for run in plan.runs})
    terminal = Terminal(plan, finished, quiet=options.quiet)
    with contextlib.ExitStack() as closing:
        tracker = closing.enter_context(Tracker(options.wandb, directory.path, config, tell))
        try:
            with stop_on_signals() as should_stop, terminal:
                records = execute(plan, setting, directory, [terminal, StudyTracker(tracker, name)], should_stop)
        except Stopped:
            tell(f"stopped; the same command with --resume --out {directory.path} continues")
            if setting.processes is not None:
                setting.processes.dismiss()
            return 75
        report_comparison(directory, name, tracker, closing)
    # Others that an exception of this process left in the middle of a step would not hear it; they end as it does.
    if setting.processes is not None and (finished or not any(record["traceback"] for record in records)):
        setting.processes.dismiss()
    return exit_code([record for record in records if record["phase"] == "final"], directory.path)
