"""`mtl search`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import Any

from mtl.benchmarks import Benchmark
from mtl.cli.engines import Engine, find_engine, opened
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.outcome import at_work, exit_code, reporting
from mtl.cli.parser import BadInput
from mtl.cli.search_terminal import SearchTerminal
from mtl.cli.shared import make_config, make_setting, recorded_config, run_directory, tell
from mtl.cli.terminal import Terminal
from mtl.search.build import build_space
from mtl.search.engine import Search
from mtl.search.grammar import Range, read_file, read_options
from mtl.search.methods import OPTIONS, Options, find_method, make_options
from mtl.search.objective import Objective
from mtl.search.plan import baseline_metrics, baseline_plan, make_search
from mtl.search.space import Space
from mtl.study.execute import execute
from mtl.study.plan import parse_strategies
from mtl.study.rundir import RunDirectory
from mtl.study.setting import Setting
from mtl.tracking import SearchTracker, StudyTracker, Tracker
from mtl.train import Stopped


def search(args: argparse.Namespace) -> int:
    """`mtl search`."""
    if args.resume and args.members is None:  # which may depend on the number of trials, and that may have grown
        args.members = ((recorded_config(args) or {}).get("search") or {}).get("members")
    try:
        setting = make_setting(args)
        space, objective, options = read_search(args, setting.benchmark)
        engine = find_engine(args, setting)

        def make() -> Search:
            return make_search(
                setting, args.method, options, space, objective, args.seed, make_cohort=engine.make_cohort
            )

        made = make()
    except ValueError as error:
        raise BadInput(str(error)) from error
    asked = {name: getattr(options, name) for name in OPTIONS}
    about = {
        "method": args.method,
        **asked,
        "interval": made.problem.interval,
        "trials": made.method.trials,
        "length": made.problem.length,
        "objective": objective.higher_is_better(),
        "space": space.describe(),
    }
    listed = space.dimensions["strategy"].parameter.grid(1)
    config = {**make_config(args, setting, listed, [args.seed], listed[0]), "search": about}
    if given := given_ranges(args):
        config["options"]["search"] = [f"{name}={text}" for name, text in given.items()]
    with (
        run_directory(args, config, ("search", "seeds"), ("trials",)) as (directory, recorded),
        at_work(args.command, directory),
    ):
        return _in_directory(args, setting, engine, make, directory, recorded)


def read_search(args: argparse.Namespace, benchmark: Benchmark) -> tuple[Space, Objective, Options]:
    """What is searched and how; of the data it needs nothing.

    Raises:
        ValueError: the options cannot be worked with.
    """
    find_method(args.method)
    if args.evaluate_every is not None:
        raise ValueError(f"--evaluate-every {args.evaluate_every}: a search evaluates its runs at every --interval")
    given = given_ranges(args)
    specs = args.strategies or [args.strategy]
    strategies = [str(strategy) for strategy in parse_strategies(specs, benchmark)]
    space = build_space(benchmark, strategies, given)
    asked = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    options = make_options(find_method(args.method), asked)
    return space, Objective(args.objective, benchmark), options


def given_ranges(args: argparse.Namespace) -> dict[str, Range]:
    """The ranges of --space, and those of --search over them."""
    return {**(read_file(args.space) if args.space else {}), **read_options(args.search or [])}


def _in_directory(
    args: argparse.Namespace,
    setting: Setting,
    engine: Engine,
    make: Callable[[], Search],
    directory: RunDirectory,
    config: dict[str, Any],
) -> int:
    name = setting.benchmark.name
    objective = make().objective
    plan = baseline_plan(setting, objective, args.seed)
    from mtl.cli.commands import show_report

    with contextlib.ExitStack() as closing:
        tracker = closing.enter_context(Tracker(args.wandb, directory.path, config, tell))
        log = SearchTracker(tracker, directory, name)
        try:
            with opened(engine), stop_on_signals() as should_stop:
                if plan.runs:
                    with Terminal(plan, 0, quiet=args.quiet) as bars:
                        watching = StudyTracker(tracker, name)
                        baselines = execute(plan, setting, directory, [bars, watching], should_stop)
                    objective.baseline = baseline_metrics(baselines)
                with SearchTerminal(quiet=args.quiet) as terminal:

                    def watched() -> Search:
                        return terminal.watch(make(), engine.lost)

                    records = engine.run(watched, directory, name, [terminal, log], should_stop)
        except Stopped:
            tell(f"stopped; the same command with --resume --out {directory.path} continues")
            return 75
        with reporting(directory.path):
            show_report([directory.path], directory.path)
            log.report(config)
            log.close()
            closing.close()
    return exit_code(records, directory.path)
