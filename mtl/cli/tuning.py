"""`mtl compare --tune`: single-task baselines, then for each strategy its search and its runs on fresh seeds."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mtl.cli.engines import find_engine
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.parser import BadInput
from mtl.cli.search_terminal import SearchTerminal
from mtl.cli.shared import run_directory, tell
from mtl.cli.terminal import Terminal
from mtl.search.engine import Search
from mtl.search.tune import make_tuning, tune_and_rerun
from mtl.strategy import Strategy
from mtl.study.execute import execute
from mtl.study.plan import Plan
from mtl.study.rundir import RunDirectory
from mtl.study.setting import Setting
from mtl.tracking import SearchTracker, StudyTracker, Tracker, log_report
from mtl.train import Stopped

_DEFAULT_BUDGET = 16


def compare_tuned(
    args: argparse.Namespace, plan: Plan, setting: Setting, config: dict[str, Any], strategies: Sequence[Strategy]
) -> int:
    """Carry out a comparison in which every strategy is tuned with the same budget first.

    Args:
        args: parsed options.
        plan: of the untuned comparison; its single-task baselines are trained as they are.
        setting: what all runs share.
        config: to be recorded.
        strategies: to be tuned and compared.
    """
    budget = args.budget if args.budget is not None else _DEFAULT_BUDGET
    seeds = config["seeds"]
    try:
        engine = find_engine(args, setting)
        makers = [
            partial(make_tuning, setting, strategy, args.tune, budget, seeds, engine.make_cohort)
            for strategy in strategies
        ]
        searches = [make() for make in makers]
    except ValueError as error:
        raise BadInput(str(error)) from error
    spaces = {search.label: search.problem.space.describe() for search in searches}
    tuned = {**config, "tune": {"method": args.tune, "budget": budget}, "spaces": spaces}
    with run_directory(args, tuned, ("tune", "seeds")) as (directory, recorded):
        baselines = Plan(tuple(run for run in plan.runs if run.phase == "single_task"))
        name = setting.benchmark.name
        with Tracker(args.wandb, directory.path, recorded, tell) as tracker:
            log = SearchTracker(tracker, directory, name)
            try:
                with engine, stop_on_signals() as should_stop:
                    if baselines.runs:
                        finished = _finished(baselines, directory)
                        with Terminal(baselines, finished, quiet=args.quiet) as bars:
                            execute(baselines, setting, directory, [bars, StudyTracker(tracker, name)], should_stop)
                    with SearchTerminal(quiet=args.quiet) as terminal:

                        def carry_out(make: Callable[[], Search]) -> list[dict[str, Any]]:
                            def watched() -> Search:
                                return terminal.watch(make(), engine.lost)

                            return engine.run(watched, directory, name, [terminal, log], should_stop)

                        for make in makers:
                            tune_and_rerun(make, engine.make_cohort, seeds, directory, carry_out)
                log.close()
            except ValueError as error:
                raise BadInput(str(error)) from error
            except Stopped:
                tell(f"stopped; the same command with --resume --out {directory.path} continues")
                return 75
            from mtl.cli.commands import show_report

            log_report(tracker, directory.path, name, show_report([directory.path], directory.path))
    return 0


def _finished(plan: Plan, directory: RunDirectory) -> int:
    return len({record["run"] for record in directory.records()} & {run.name for run in plan.runs})
