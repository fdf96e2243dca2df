"""What is wrong with options whatever the benchmark and the strategies are; said at once, before torch is imported."""

from __future__ import annotations

import argparse

from mtl.cli.errors import BadInput
from mtl.cli.parser import ENGINE_OPTIONS
from mtl.ray.tune.asked import check_tune
from mtl.wandb_mode import check_word


def check_options(args: argparse.Namespace) -> None:
    """Refuse options of a command that contradict each other, that nothing would hear of, or that are out of range.

    Raises:
        BadInput: one line that names them.
    """
    try:
        if args.command == "list" and args.cost and args.what != "strategies":
            raise ValueError(
                f"--cost: {args.what} cost nothing by themselves; it is an option of `mtl list strategies`"
            )
        if args.command in ("train", "compare", "search"):
            _check_training(args)
        if args.command == "compare":
            _check_compare(args)
        if args.command == "search":
            _check_search(args)
    except ValueError as error:
        raise BadInput(str(error)) from error


def searches(args: argparse.Namespace) -> bool:
    """Whether a method decides when runs end."""
    return args.command == "search" or getattr(args, "tune", None) is not None


def _check_training(args: argparse.Namespace) -> None:
    check_word(args.wandb)  # that of the environment; argparse has checked what an option gave
    if {"epochs", "steps"} <= args.given:
        raise ValueError(f"--epochs {args.epochs} and --steps {args.steps}: give one, both are the length of a run")
    if searches(args) and "patience" in args.given:
        what = "--tune METHOD" if args.command == "compare" else "a search"
        raise ValueError(f"--patience {args.patience}: runs of {what} end when the method says, not by themselves")


def _check_compare(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise ValueError(f"--seeds {args.seeds}: must be at least 1")
    if args.tune is not None:
        _check_engine(args)
        return
    for name in ("budget", *ENGINE_OPTIONS):
        if (value := getattr(args, name)) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {value}: it is an option of --tune METHOD")
    if args.engine != "population":
        raise ValueError(
            f"--engine {args.engine}: without --tune METHOD there is no search to be spread over processes"
        )


def _check_search(args: argparse.Namespace) -> None:
    if "evaluate_every" in args.given:
        raise ValueError(f"--evaluate-every {args.evaluate_every}: a search evaluates its runs at every --interval")
    if "strategy" in args.given and args.strategies is not None:
        raise ValueError(f"--strategy {args.strategy}: --strategies names those that are searched")
    _check_engine(args)
    if args.asynchronous and args.engine == "population":
        raise ValueError("--asynchronous: there is nothing to wait for in one process; it is an option of --engine ray")


def _check_engine(args: argparse.Namespace) -> None:
    """Refuse options of an engine that is not used, or out of range."""
    for name, engines in ENGINE_OPTIONS.items():
        if args.engine not in engines and (value := getattr(args, name)) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {value}: it is an option of --engine {' and '.join(engines)}")
    if args.engine == "tune":
        if args.command == "compare":
            raise ValueError("--engine tune: mtl compare tunes by its own methods; give population or ray")
        check_tune(args)
    for name in ("shards", "nodes"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ValueError(f"--{name} {value}: must be at least 1")
    if args.gpus_per_shard is not None and not 0 < args.gpus_per_shard <= 1:
        raise ValueError(f"--gpus-per-shard {args.gpus_per_shard:g}: must be in (0, 1]")
