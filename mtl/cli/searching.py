"""`mtl search`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import cast

from mtl.benchmarks import find_benchmark
from mtl.benchmarks.trunk import reads_trunk
from mtl.cli.checks import read_search
from mtl.cli.engine import Engine
from mtl.cli.engines import find_engine, opened
from mtl.cli.errors import BadInput
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.options import SearchOptions
from mtl.cli.outcome import at_work, exit_code, keep_best, reporting
from mtl.cli.search_terminal import SearchTerminal
from mtl.cli.shared import make_config, make_setting, recorded_config, run_directory, tell
from mtl.cli.size import check_size
from mtl.cli.terminal import Terminal
from mtl.files.config import Config, SearchEntry
from mtl.search.methods import OPTIONS, random_starts
from mtl.search.plan import baseline_metrics, baseline_plan, check_searched_batches, check_searched_models, make_search
from mtl.search.search import Search
from mtl.search.space import make_member
from mtl.study.execute import execute
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.tracking import SearchTracker, StudyTracker, Tracker
from mtl.train import Stopped


def search(options: SearchOptions) -> int:
    """`mtl search`."""
    if options.methods is not None:
        from mtl.cli.methods import search_methods  # which searches by each of them, as below

        return search_methods(options, options.methods)
    return search_one(options)


def search_one(options: SearchOptions, setting: StudySetup | None = None) -> int:
    """A search by one method.

    Args:
        options: of the command.
        setting: that they ask for, where it is known.
    """
    if options.resume and (before := recorded_config(options)) is not None and "members" in before.get("search", {}):
        # Where they are not given they may depend on the number of trials, and that may have grown.
        held = {"members": before["search"]["members"]}
        options = dataclasses.replace(options, method_options={**held, **options.method_options})
    try:
        benchmark = find_benchmark(options.subject)
        asked = read_search(options, benchmark)
        options = dataclasses.replace(options, method=asked.method)
        space, objective = asked.space, asked.objective
        setting = setting or make_setting(options, benchmark)
        for name in ("dropout", "stochastic_depth", "model", "architecture"):
            attribute = "architecture" if name == "architecture" else "trunk"
            if name in space.dimensions and not reads_trunk(benchmark, setting.splits.train.first(2), attribute):
                raise ValueError(
                    f"{name}: benchmark {benchmark.name!r} builds its own model, which does not look at `{attribute}`"
                )
        check_searched_batches(space, setting)
        check_searched_models(space, setting)
        engine = find_engine(options, setting)

        def make() -> Search:
            return make_search(
                setting, asked.method, asked.options, space, objective, options.seed, make_cohort=engine.make_cohort
            )

        made = make()
        if options.engine == "population":
            count = min(asked.options.members, made.method.trials)
            members = (make_member(random_starts(made.problem, 1, k)[0].values, k) for k in range(count))
            check_size("--members", count, members, engine.make_cohort, setting.device, tell)
    except ValueError as error:
        raise BadInput(str(error)) from error
    about = {
        "method": asked.method,
        **engine.about,
        **{name: getattr(asked.options, name) for name in OPTIONS},
        "interval": made.problem.interval,
        "trials": made.method.trials,
        "length": made.problem.length,
        "objective": objective.higher_is_better(),
        "space": space.describe(),
    }
    listed = asked.strategies
    config = make_config(options, setting, listed, [options.seed], listed[0])
    config["search"] = cast(SearchEntry, about)
    if asked.ranges:
        config["options"]["search"] = [f"{name}={text}" for name, text in asked.ranges.items()]
    with (
        run_directory(options, setting, config, ("search", "seeds"), ("trials",)) as (directory, recorded),
        at_work(options.command, directory),
    ):
        return _in_directory(options, setting, engine, make, directory, recorded)


def _in_directory(
    options: SearchOptions,
    setting: StudySetup,
    engine: Engine,
    make: Callable[[], Search],
    directory: RunDirectory,
    config: Config,
) -> int:
    name = setting.benchmark.name
    objective = make().objective
    plan = baseline_plan(setting, objective, options.seed)
    from mtl.cli.showing import show_report

    with contextlib.ExitStack() as closing:
        tracker = closing.enter_context(Tracker(options.wandb, directory.path, config, tell))
        log = SearchTracker(tracker, directory, name)
        try:
            with opened(engine), stop_on_signals() as should_stop:
                if plan.runs:
                    with Terminal(plan, 0, quiet=options.quiet) as bars:
                        watching = StudyTracker(tracker, name)
                        baselines = execute(plan, setting, directory, [bars, watching], should_stop)
                    objective.baseline = baseline_metrics(baselines)
                with SearchTerminal(quiet=options.quiet) as terminal:

                    def watched() -> Search:
                        return terminal.watch(make(), engine.lost)

                    records = engine.run(watched, directory, name, [terminal, log], terminal.heeding(should_stop))
        except Stopped:
            tell(f"stopped; the same command with --resume --out {directory.path} continues")
            return 75
        with reporting(directory.path):
            keep_best(directory, show_report([directory.path], directory.path))
            log.report(config)
            log.close()
            closing.close()
    return exit_code(records, directory.path)
