"""What is wrong with options whatever the benchmark and the strategies are; said at once, before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.auto.clock import read_time
from mtl.auto.parts import read_parts
from mtl.cli.declared import declared
from mtl.cli.errors import BadInput
from mtl.cli.options import (
    ENGINE_OPTIONS,
    AutoOptions,
    Command,
    CompareOptions,
    EngineOptions,
    ListOptions,
    RunOptions,
    SearchOptions,
    TrainOptions,
)
from mtl.cli.torchrun import check_alone
from mtl.hyperparameters import show
from mtl.ray.tune.asked import check_pair, scheduler_of, searcher_of
from mtl.wandb_mode import check_word


def check_options(options: Command) -> None:
    """Refuse options of a command that contradict each other, that nothing would hear of, or that are out of range.

    Raises:
        BadInput: one line that names them.
    """
    try:
        if isinstance(options, ListOptions) and options.cost and options.what != "strategies":
            raise ValueError(
                f"--cost: {options.what} cost nothing by themselves; it is an option of `mtl list strategies`"
            )
        if isinstance(options, RunOptions):
            if not isinstance(options, TrainOptions):
                check_alone(options.command)
            _check_training(options)
        if isinstance(options, CompareOptions):
            _check_compare(options)
        if isinstance(options, SearchOptions):
            _check_search(options)
        if isinstance(options, AutoOptions):
            _check_auto(options)
        _check_ranges(options)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _check_training(options: RunOptions) -> None:
    check_word(options.wandb)  # that of the environment; what an option gave is one of the choices
    said = options.training
    if {"epochs", "steps"} <= options.given:
        raise ValueError(
            f"--epochs {said['epochs']} and --steps {said['steps']}: give one, both are the length of a run"
        )
    if options.searches and "patience" in options.given:
        what = "--tune METHOD" if isinstance(options, CompareOptions) else "a search"
        raise ValueError(f"--patience {said['patience']}: runs of {what} end when the method says, not by themselves")


def _check_compare(options: CompareOptions) -> None:
    if options.tune is not None:
        _check_engine(options)
        return
    for name in ("budget", *ENGINE_OPTIONS):
        if (value := getattr(options, name)) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {value}: it is an option of --tune METHOD")
    if options.engine != "population":
        raise ValueError(
            f"--engine {options.engine}: without --tune METHOD there is no search to be spread over processes"
        )


def _check_auto(options: AutoOptions) -> None:
    read_time(options.time)
    read_parts(options.only)
    if options.objective == "delta_m":
        raise ValueError("--objective delta_m: it needs runs of each task alone; give selection or TASK/METRIC")
    for name in ("evaluate_every", "checkpoint_minutes"):
        if name in options.given:
            shown = f"--{name.replace('_', '-')} {show(options.training[name])}"
            raise ValueError(f"{shown}: mtl auto evaluates and saves its runs as its time demands")


def _check_search(options: SearchOptions) -> None:
    if "evaluate_every" in options.given:
        every = options.training["evaluate_every"]
        raise ValueError(f"--evaluate-every {every}: a search evaluates its runs at every --interval")
    if "checkpoint_minutes" in options.given:
        minutes = options.training["checkpoint_minutes"]
        raise ValueError(f"--checkpoint-minutes {minutes:g}: a search writes a checkpoint at every --interval")
    if "strategy" in options.given and options.strategies is not None:
        raise ValueError(f"--strategy {options.strategy}: --strategies names those that are searched")
    if options.methods is not None:
        _check_methods(options, options.methods)
    _check_engine(options)
    if options.method_options.get("asynchronous") and options.engine == "population":
        raise ValueError("--asynchronous: there is nothing to wait for in one process; it is an option of --engine ray")


def _check_methods(options: SearchOptions, methods: Sequence[str]) -> None:
    """Refuse what does not go with several methods."""
    if "method" in options.given:
        raise ValueError(f"--method {options.method}: --methods names those that are compared")
    if len(methods) == 1:
        raise ValueError(f"--methods {methods[0]}: there is nothing to compare it with; --method takes one")
    if repeated := [name for name in methods if methods.count(name) > 1]:
        raise ValueError(f"--methods: {repeated[0]} is given twice")
    if "members" in options.given:
        members = options.method_options["members"]
        raise ValueError(
            f"--members {members}: each of --methods has its own; --trials says how many whole runs it makes"
        )
    if options.engine == "tune":
        raise ValueError("--methods: --engine tune has no methods but --scheduler and --searcher")


def _check_engine(options: EngineOptions) -> None:
    """Refuse options of an engine that is not used, and what Ray Tune cannot combine."""
    for name, engines in ENGINE_OPTIONS.items():
        if options.engine not in engines and (value := getattr(options, name)) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {value}: it is an option of --engine {' and '.join(engines)}")
    if options.engine == "tune":
        if isinstance(options, CompareOptions):
            raise ValueError("--engine tune: mtl compare tunes by its own methods; give population or ray")
        scheduler = scheduler_of(options.scheduler, options.shards)
        check_pair(scheduler, searcher_of(options.searcher, scheduler), options.shards)


def _check_ranges(options: Command) -> None:
    """Of what is declared here; training settings and options of a method are checked where they are declared."""
    for each in declared(type(options)).values():
        value = None if each.sheet else getattr(options, each.name)
        if each.kind in (int, float) and value is not None and (complaint := each.about.complaint(value)):
            raise ValueError(f"{each.dashed} {show(value)}: {complaint}")
