"""What options ask for, and whether it can be done: all that can be said without the data.

`mtl train`, `compare` and `search` begin with it, and `mtl submit` does it before the job is queued. What options say
against each other is found before, in `contradictions`.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass

from mtl.benchmarks import Benchmark
from mtl.cli.contradictions import searches
from mtl.cli.parser import DEFAULT_STRATEGIES, TRAINING
from mtl.ray.tune.asked import method_of
from mtl.search.build import build_space
from mtl.search.grammar import Range, read_file, read_options
from mtl.search.methods import OPTIONS, Options, find_method, make_options
from mtl.search.objective import SELECTION, Objective
from mtl.search.plan import make_method
from mtl.search.space import Space
from mtl.search.tune import tuning_options
from mtl.strategies.strategy import Strategy
from mtl.study.plan import parse_strategies, usual_reference
from mtl.tracking.client import check_mode
from mtl.train import Settings, check_trunk

DEFAULT_BUDGET = 16
_ANY_LENGTH = 20  # intervals of a run whose length only the data tells
_ALIGNED = frozenset({"align", "implicit"})  # signals that are read on the split of --align-data


@dataclass(frozen=True)
class Comparison:
    """What `mtl compare` compares."""

    strategies: list[Strategy]
    reference: Strategy
    seeds: list[int]


@dataclass(frozen=True)
class Asked:
    """What `mtl search` searches, and how."""

    strategies: list[Strategy]
    ranges: dict[str, Range]
    space: Space
    objective: Objective
    options: Options


def read_settings(args: argparse.Namespace, benchmark: Benchmark) -> Settings:
    """The training settings: those of the options over the benchmark's recipe.

    Raises:
        ValueError: they cannot be worked with; one line, as in all functions here.
    """
    check_mode(args.wandb)
    settings = Settings.of(getattr(benchmark, "recipe", {}), {name: getattr(args, name) for name in TRAINING})
    if searches(args):
        settings = dataclasses.replace(settings, patience=None)
    check_trunk(benchmark, settings)
    return settings


def read_training(args: argparse.Namespace, benchmark: Benchmark) -> Strategy:
    """The strategy of `mtl train`."""
    [strategy] = parse_strategies([args.strategy], benchmark)
    _check_heard(args, read_settings(args, benchmark), [strategy])
    return strategy


def read_comparison(args: argparse.Namespace, benchmark: Benchmark) -> Comparison:
    """The strategies and seeds of `mtl compare`."""
    strategies = parse_strategies(args.strategies or default_strategies(benchmark), benchmark)
    reference = parse_strategies([args.reference], benchmark)[0] if args.reference else usual_reference(strategies)
    if reference not in strategies:
        raise ValueError(f"--reference {reference}: it is not among the strategies")
    settings = read_settings(args, benchmark)
    _check_heard(args, settings, strategies)
    if args.tune is not None:
        for strategy in strategies:
            options = tuning_options(args.tune, DEFAULT_BUDGET if args.budget is None else args.budget)
            space = build_space(benchmark, [str(strategy)], {})
            _check_method(args.tune, options, space, Objective([SELECTION], benchmark), settings)
    return Comparison(strategies, reference, [args.seed + k for k in range(args.seeds)])


def read_search(args: argparse.Namespace, benchmark: Benchmark) -> Asked:
    """The space, objective and options of `mtl search`."""
    args.method = method_of(args)
    method = find_method(args.method)
    ranges = {**(read_file(args.space) if args.space else {}), **read_options(args.search or [])}
    for name in ("strategy", "strategies"):
        if name in args.given and "strategy" in ranges:
            raise ValueError(f"--{name}: {ranges['strategy'].where} names the strategies with strategy=")
    strategies = parse_strategies(args.strategies or [args.strategy], benchmark)
    space = build_space(benchmark, [str(strategy) for strategy in strategies], ranges)
    options = make_options(method, {name: value for name in OPTIONS if (value := getattr(args, name)) is not None})
    objective = Objective(args.objective, benchmark)
    settings = read_settings(args, benchmark)
    searched = parse_strategies(space.dimensions["strategy"].parameter.grid(1), benchmark)
    _check_heard(args, settings, searched, space)
    _check_method(args.method, options, space, objective, settings)
    return Asked(searched, ranges, space, objective, options)


def default_strategies(benchmark: Benchmark) -> tuple[str, ...]:
    """The nine of the main job; static weights only where their number fits."""
    return tuple(spec for spec in DEFAULT_STRATEGIES if len(benchmark.tasks) == 3 or not spec.startswith("static:"))


def _check_method(method: str, options: Options, space: Space, objective: Objective, settings: Settings) -> None:
    """Make the method as for a run of the length that is said, or, where the data decides it, of one that fits."""
    length = settings.steps if settings.steps is not None else _ANY_LENGTH * (options.interval or 1)
    make_method(method, options, space, objective, 0, length)


def _check_heard(
    args: argparse.Namespace, settings: Settings, strategies: list[Strategy], space: Space | None = None
) -> None:
    """Refuse settings that nothing would hear of."""
    varied = space.dimensions if space is not None else {}
    if "momentum" in args.given and settings.optimizer != "sgd" and "optimizer" not in varied:
        raise ValueError(
            f"--momentum {args.momentum:g}: it is a setting of sgd, and the optimizer is {settings.optimizer}"
        )
    if "align_data" in args.given and not any(strategy.needs & _ALIGNED for strategy in strategies):
        raise ValueError(f"--align-data {args.align_data}: no strategy here reads gradients of another split")
