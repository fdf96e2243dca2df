"""`mtl compare --tune`: for each single-task baseline and each strategy a search, then its runs on fresh seeds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mtl.cli.engines import find_engine, opened
from mtl.cli.errors import BadInput
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.options import DEFAULT_BUDGET, CompareOptions
from mtl.cli.outcome import at_work, exit_code, report_comparison
from mtl.cli.search_terminal import SearchTerminal
from mtl.cli.shared import run_directory, tell
from mtl.files.config import Config
from mtl.search.cohort import MakeCohort
from mtl.search.plan import cohort_maker
from mtl.search.search import Search
from mtl.search.tune import make_tuning, of_one_task, tune_and_rerun
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from mtl.study.plan import Plan
from mtl.study.setup import StudySetup
from mtl.study.variant import Variant
from mtl.tracking import SearchTracker, Tracker
from mtl.train import Stopped


def compare_tuned(
    options: CompareOptions, plan: Plan, setting: StudySetup, config: Config, compared: Sequence[Strategy | Variant]
) -> int:
    """Carry out a comparison in which every strategy is tuned with the same budget first.

    Args:
        options: of the command; they name a method of tuning.
        plan: of the untuned comparison; its single-task baselines are tuned with the same budget, in this process.
        setting: what all runs share.
        config: to be recorded.
        compared: strategies or variants, to be tuned and compared.
    """
    method = options.tune
    assert method is not None
    budget = options.budget if options.budget is not None else DEFAULT_BUDGET
    seeds, written = config["seeds"], options.strategies or ()
    try:
        engine = find_engine(options, setting)
        equal = make("equal")
        baselines = [
            (task, of_one_task(setting, task)) for task in dict.fromkeys(run.task for run in plan.runs if run.task)
        ]
        # Each with what trains its runs. Baselines are trained in this process, whose benchmark has one task for them.
        tunings: list[tuple[Callable[[], Search], MakeCohort]] = [
            (partial(make_tuning, alone, equal, method, budget, seeds, cohorts, task), cohorts)
            for task, alone in baselines
            for cohorts in [cohort_maker(alone)]
        ]
        tunings += [
            (
                partial(make_tuning, setting, each, method, budget, seeds, engine.make_cohort, written=written),
                engine.make_cohort,
            )
            for each in compared
        ]
        searches = [make_one() for make_one, _ in tunings]
    except ValueError as error:
        raise BadInput(str(error)) from error
    spaces = {search.label: search.problem.space.describe() for search in searches if search.task is None}
    tuned: Config = {**config, "tune": {"method": method, "budget": budget}, "spaces": spaces}
    with (
        run_directory(options, setting, tuned, ("tune", "seeds")) as (directory, recorded),
        at_work("compare", directory),
    ):
        name = setting.benchmark.name
        with contextlib.ExitStack() as closing:
            tracker = closing.enter_context(Tracker(options.wandb, directory.path, recorded, tell))
            log = SearchTracker(tracker, directory, name)
            records: list[dict[str, Any]] = []
            try:
                with opened(engine), stop_on_signals() as should_stop, SearchTerminal(quiet=options.quiet) as terminal:

                    def carry_out(make_one: Callable[[], Search]) -> list[dict[str, Any]]:
                        def watched() -> Search:
                            return terminal.watch(make_one(), engine.lost)

                        return engine.run(watched, directory, name, [terminal, log], terminal.heeding(should_stop))

                    for make_one, cohorts in tunings:
                        records += tune_and_rerun(make_one, cohorts, seeds, directory, carry_out)
                log.close()
            except Stopped:
                tell(f"stopped; the same command with --resume --out {directory.path} continues")
                return 75
            report_comparison(directory, name, tracker, closing)
        return exit_code([record for record in records if record["phase"] == "final"], directory.path)
