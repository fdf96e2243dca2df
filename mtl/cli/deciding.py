"""`mtl auto`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import cast

from rich.markup import escape

from mtl.auto.clock import Clock, read_time
from mtl.auto.decide import Decider, Wanted
from mtl.auto.holdout import HeldOut, hold_out
from mtl.auto.parts import read_parts
from mtl.auto.space import AutoSpace, auto_space
from mtl.auto.state import read_state
from mtl.auto.winner import keep_best_so_far
from mtl.benchmarks import find_benchmark
from mtl.benchmarks.losses import read_losses
from mtl.cli.checks import read_decision
from mtl.cli.decision_terminal import DecisionTerminal
from mtl.cli.errors import BadInput
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.options import AutoOptions
from mtl.cli.outcome import at_work, exit_code, reporting
from mtl.cli.shared import make_config, make_setting, once, run_directory, tell
from mtl.cli.terminal import console
from mtl.files.config import AutoEntry, Config
from mtl.search.objective import Objective
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.tracking import SearchTracker, Tracker
from mtl.tracking.study import log_decision
from mtl.train import Stopped


def auto(options: AutoOptions) -> int:
    """`mtl auto`."""
    begun = time.monotonic()
    try:
        benchmark = find_benchmark(options.subject)
        objective = read_decision(options, benchmark)
        # Many cohorts are made, of runs that are tried, race and meet, and each has the same to say.
        setting = dataclasses.replace(make_setting(options, benchmark), tell=once(tell))
        held = hold_out(setting.benchmark.tasks, setting.splits, options.seed)
        kept = {*options.training, *(f"loss.{task}" for task in read_losses(options.loss or []))}
        decided = auto_space(setting.benchmark, held.of_the_race, setting.settings, read_parts(options.only), kept)
    except ValueError as error:
        raise BadInput(str(error)) from error
    config = make_config(
        options, setting, decided.space.dimensions["strategy"].parameter.grid(1), [options.seed], "equal"
    )
    config["auto"] = _entry(options, objective, held, decided)
    of_the_race = dataclasses.replace(setting, splits=held.of_the_race)
    with (
        run_directory(options, of_the_race, config, ("auto", "seeds"), ("time",)) as (directory, recorded),
        at_work(options.command, directory),
    ):
        return _in_directory(options, setting, held, decided, objective, directory, recorded, begun)


def _entry(options: AutoOptions, objective: Objective, held: HeldOut, decided: AutoSpace) -> AutoEntry:
    return {
        "objective": objective.higher_is_better(),
        "time": read_time(options.time),
        "only": [*read_parts(options.only)],
        "seeds": options.seeds,
        "finalists": options.finalists,
        "members": options.members,
        "space": decided.space.describe(),
        "holdout": {"from": held.source, "examples": len(held.holdout)},
        "remarks": decided.remarks,
    }


def _in_directory(
    options: AutoOptions,
    setting: StudySetup,
    held: HeldOut,
    decided: AutoSpace,
    objective: Objective,
    directory: RunDirectory,
    config: Config,
    begun: float,
) -> int:
    name = setting.benchmark.name
    try:
        spent = read_state(directory.path).elapsed
    except ValueError as error:
        raise BadInput(str(error)) from error
    clock = Clock(read_time(options.time), spent, begun=begun)
    with contextlib.ExitStack() as closing:
        tracker = closing.enter_context(Tracker(options.wandb, directory.path, config, tell))
        log = SearchTracker(tracker, directory, name)
        terminal = closing.enter_context(DecisionTerminal(clock, quiet=options.quiet))
        for remark in decided.remarks:
            terminal.say(remark)
        terminal.say(
            f"{len(held.holdout):,} examples of the {held.source} split are held out: the race never sees them."
        )
        wanted = Wanted(options.seed, options.seeds, options.finalists, options.members)
        decider = Decider(
            setting, held, decided.space, objective, wanted, directory, clock, terminal.say, [terminal, log]
        )
        terminal.learning = lambda: decider.learning
        stopped = False
        try:
            with stop_on_signals() as should_stop:
                decider.carry_out(terminal.heeding(should_stop))
        except Stopped:
            stopped = True
        terminal.close()
        with reporting(directory.path):
            _report(options, decider, directory, stopped=stopped)
            log.close()
            log_decision(tracker, directory.path, setting.benchmark.name)
            closing.close()
    if stopped:
        tell(f"stopped; the same command with --resume --out {directory.path} continues")
        return 75
    return exit_code([record for record in directory.records() if record["phase"] == "final"], directory.path)


def _report(options: AutoOptions, decider: Decider, directory: RunDirectory, *, stopped: bool) -> None:
    """The weights of what was decided, or of the best so far, and the report."""
    from mtl.cli.showing import show_report  # brings matplotlib

    decider.keep()
    summary = show_report([directory.path], directory.path)
    best = None
    if stopped:
        best = None if options.keep_models == "none" else keep_best_so_far(directory.path, decider.state.leader)
    elif directory.models is not None:
        best = directory.models.settle(directory.records(), cast("str | None", summary["chosen"]))
    if best is not None:
        console.print(f"Best model: {escape(str(best))}", highlight=False, soft_wrap=True)
