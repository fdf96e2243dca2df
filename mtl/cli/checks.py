"""What options ask for, and whether it can be done: all that can be said without the data.

`mtl train`, `compare`, `search` and `auto` begin with it, and `mtl submit` does it before the job is queued. What
options say against each other is found before, in `contradictions`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mtl.benchmarks import Benchmark
from mtl.benchmarks.apart import tasks_of_losses
from mtl.benchmarks.losses import read_losses
from mtl.cli.options import DEFAULT_BUDGET, AutoOptions, CompareOptions, RunOptions, SearchOptions, TrainOptions
from mtl.files.python_files import without_folders
from mtl.losses.spec import make_loss
from mtl.ray.tune.asked import method_like, scheduler_of, searcher_of
from mtl.search.methods import MethodOptions, find_method, make_options
from mtl.search.objective import SELECTION, Objective
from mtl.search.plan import check_searched_settings, make_method
from mtl.search.space import Space
from mtl.search.space.build import build_space
from mtl.search.space.grammar import Range, read_file, read_options, read_varied
from mtl.search.tune import tuned_space, tuning_options
from mtl.strategies.strategy import Strategy
from mtl.study.plan import parse_strategies, usual_reference
from mtl.study.variant import Variant, make_variants, usual_variant
from mtl.study.varied import LOSS
from mtl.suggestions import nearest
from mtl.tracking.client import check_mode
from mtl.train import Settings, check_trunk
from mtl.train.job import check_together
from mtl.train.lbfgs import check_searched
from mtl.train.learning import check_learning
from mtl.train.optimizers import read_optimizer
from mtl.train.recipe import ALIGNED

DEFAULT_STRATEGIES = (
    "equal",
    "static:weights=1/1/3",
    "uncertainty",
    "gradnorm",
    "dwa",
    "rlw",
    "famo",
    "mgda",
    "auto-lambda",
)
_ANY_LENGTH = 20  # intervals of a run whose length only the data tells


@dataclass(frozen=True)
class Comparison:
    """What `mtl compare` compares.

    Attributes:
        variants: of the strategies, where something else is varied; they are compared then.
        reference: one of the variants, or of the strategies where there are none.
    """

    strategies: list[Strategy]
    variants: list[Variant]
    reference: Strategy | Variant
    seeds: list[int]


@dataclass(frozen=True)
class Asked:
    """What `mtl search` searches, and how.

    Attributes:
        method: by name; with Ray Tune's trials the one that they are like.
    """

    method: str
    strategies: list[Strategy]
    ranges: dict[str, Range]
    space: Space
    objective: Objective
    options: MethodOptions


def read_settings(options: RunOptions, benchmark: Benchmark) -> Settings:
    """The training settings: those of the options over the benchmark's recipe.

    Raises:
        ValueError: they cannot be worked with; one line, as in all functions here.
    """
    check_mode(options.wandb)
    settings = Settings.of(getattr(benchmark, "recipe", {}), options.training)
    if options.searches:
        settings = dataclasses.replace(settings, patience=None)
    check_trunk(benchmark, settings)
    return settings


def read_training(options: TrainOptions, benchmark: Benchmark) -> Strategy:
    """The strategy of `mtl train`."""
    [strategy] = parse_strategies([options.strategy], benchmark)
    settings = read_settings(options, benchmark)
    _check_heard(options, settings, [strategy])
    check_together(settings, strategy, benchmark.tasks)
    return strategy


def read_comparison(options: CompareOptions, benchmark: Benchmark) -> Comparison:
    """The strategies and seeds of `mtl compare`."""
    usual = ("equal",) if options.vary else default_strategies(benchmark)
    # What is varied may be the losses: then each variant says how many there are to weigh.
    strategies = parse_strategies(options.strategies or usual, None if options.vary else benchmark)
    settings = read_settings(options, benchmark)
    for strategy in strategies:
        check_together(settings, strategy)
    seeds = [options.seed + k for k in range(options.seeds)]
    variants: list[Variant] = []
    reference: Strategy | Variant
    if options.vary:
        variants = _read_variants(options, strategies, benchmark, settings)
        reference = _reference(options, variants, strategies, benchmark, settings)
    else:
        named = options.reference
        reference = parse_strategies([named], benchmark)[0] if named else usual_reference(strategies)
        if reference not in strategies:
            raise ValueError(f"--reference {reference}: it is not among the strategies")
        _check_heard(options, settings, strategies)
    if options.tune is not None:
        budget = tuning_options(options.tune, DEFAULT_BUDGET if options.budget is None else options.budget)
        for each in variants or strategies:
            space = tuned_space(benchmark, each, options.strategies or ())
            _check_optimizers(settings, space, strategies)
            _check_method(options.tune, budget, space, Objective([SELECTION], benchmark), settings)
    return Comparison(strategies, variants, reference, seeds)


def _read_variants(
    options: CompareOptions, strategies: list[Strategy], benchmark: Benchmark, settings: Settings
) -> list[Variant]:
    """The variants of `--vary`, each one that something would come of."""
    given = {*options.given, *(f"{LOSS}{task}" for task in read_losses(options.loss or []))}
    varied, tuned = read_varied(options.vary or []), options.tune is not None
    variants = make_variants(varied, strategies, benchmark, given, tuned=tuned)
    each = {variant.label: variant.over(settings) for variant in variants}
    for variant in variants:
        own = each[variant.label]
        check_trunk(benchmark, own)
        if "momentum" in variant.settings and not read_optimizer(own.optimizer).hears_momentum:
            raise ValueError(f"--vary, {variant}: momentum is a setting of sgd, and the optimizer is {own.optimizer}")
    hear = [own for own in each.values() if read_optimizer(own.optimizer).hears_momentum]
    _check_heard(options, hear[0] if hear else settings, strategies)
    if "align_data" in variants[0].settings and not any(strategy.needs & ALIGNED for strategy in strategies):
        raise ValueError("--vary align_data: no strategy here reads gradients of another split")
    return variants


def _reference(
    options: CompareOptions,
    variants: list[Variant],
    strategies: list[Strategy],
    benchmark: Benchmark,
    settings: Settings,
) -> Variant:
    if options.reference is None:
        return usual_variant(variants, usual_reference(strategies), benchmark, settings)
    labels = {variant.label: variant for variant in variants}
    if options.reference not in labels and without_folders(options.reference) in labels:
        return labels[without_folders(options.reference)]
    if options.reference not in labels:
        meant = nearest(options.reference, labels)
        raise ValueError(f"--reference {options.reference}: it is not among the variants: {meant}")
    return labels[options.reference]


def read_search(options: SearchOptions, benchmark: Benchmark) -> Asked:
    """The space, objective and options of `mtl search`."""
    name = _method_of(options)
    method = find_method(name)
    ranges = {**(read_file(options.space) if options.space else {}), **read_options(options.search or [])}
    for word in ("strategy", "strategies"):
        if word in options.given and "strategy" in ranges:
            raise ValueError(f"--{word}: {ranges['strategy'].where} names the strategies with strategy=")
    specs = options.strategies or [options.strategy]
    parse_strategies(specs, benchmark)
    space = build_space(benchmark, specs, ranges)
    made = make_options(method, options.method_options)
    objective = Objective(options.objective, benchmark)
    settings = read_settings(options, benchmark)
    searched = parse_strategies(space.dimensions["strategy"].parameter.grid(1), benchmark)
    _check_heard(options, settings, searched, space)
    _check_learning(benchmark, searched, space)
    _check_optimizers(settings, space, searched)
    check_searched_settings(space, settings)
    _check_method(name, made, space, objective, settings)
    return Asked(name, searched, ranges, space, objective, made)


def read_decision(options: AutoOptions, benchmark: Benchmark) -> Objective:
    """The objective of `mtl auto`."""
    read_settings(options, benchmark)
    return Objective([options.objective], benchmark)


def _method_of(options: SearchOptions) -> str:
    if options.engine != "tune" or options.shards is not None:
        return options.method
    if "method" in options.given:
        raise ValueError(f"--method {options.method}: --engine tune takes --scheduler and --searcher, or --shards")
    scheduler = scheduler_of(options.scheduler, options.shards)
    return method_like(scheduler, searcher_of(options.searcher, scheduler))


def default_strategies(benchmark: Benchmark) -> tuple[str, ...]:
    """The nine of the main job; static weights only where their number fits."""
    fits = len(tasks_of_losses(benchmark.tasks)) == 3
    return tuple(spec for spec in DEFAULT_STRATEGIES if fits or not spec.startswith("static:"))


def _check_method(method: str, options: MethodOptions, space: Space, objective: Objective, settings: Settings) -> None:
    """Make the method as for a run of the length that is said, or, where the data decides it, of one that fits."""
    length = settings.steps if settings.steps is not None else _ANY_LENGTH * (options.interval or 1)
    make_method(method, options, space, objective, 0, length)


def _check_optimizers(settings: Settings, space: Space, strategies: list[Strategy]) -> None:
    """Refuse to search what an optimizer does not have, and strategies that it does not go with."""
    varied = space.dimensions.get("optimizer")
    for spec in varied.parameter.grid(1) if varied is not None else [settings.optimizer]:
        optimizer = read_optimizer(spec)
        if "weight_decay" in space.varied and not optimizer.decays:
            raise ValueError(
                f"optimizer {spec!r}: it has no weight decay, which is searched; mtl search --search "
                "weight_decay=0 leaves it at 0"
            )
        own = Settings(optimizer=spec, compile=settings.compile)  # what else the trials have, the space says
        for strategy in strategies:
            check_together(own, strategy)
        if optimizer.searches:
            check_searched(spec, space.varied)


def _check_learning(benchmark: Benchmark, strategies: list[Strategy], space: Space) -> None:
    """Refuse a choice of losses of which one is learned under a strategy that this is not possible with."""
    for task in benchmark.tasks:
        choices = space.dimensions.get(f"{LOSS}{task.name}")
        for spec in choices.parameter.grid(1) if choices is not None else ():
            for strategy in strategies:
                check_learning([dataclasses.replace(task, loss=make_loss(spec))], strategy)


def _check_heard(
    options: RunOptions, settings: Settings, strategies: list[Strategy], space: Space | None = None
) -> None:
    """Refuse settings that nothing would hear of."""
    varied = space.dimensions if space is not None else {}
    if "momentum" in options.given and "optimizer" not in varied:
        optimizer = read_optimizer(settings.optimizer)
        if optimizer.name != "sgd":
            raise ValueError(
                f"--momentum {settings.momentum:g}: it is a setting of sgd, and the optimizer is {settings.optimizer}"
            )
        if not optimizer.hears_momentum:
            raise ValueError(f"--momentum {settings.momentum:g}: --optimizer {settings.optimizer} says it too")
    if "align_data" in options.given and not any(strategy.needs & ALIGNED for strategy in strategies):
        raise ValueError(f"--align-data {settings.align_data}: no strategy here reads gradients of another split")
