"""Schedulers and searchers of Ray Tune, and the configurations of trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.search.methods import MethodOptions, Problem
from mtl.search.methods.method import random_starts
from mtl.search.space import Space
from mtl.search.space.to_tune import in_words

_METRIC, _MODE = "objective", "max"


def make_scheduler(name: str, problem: Problem, options: MethodOptions) -> Any:
    """The scheduler of that name, for trials that report `steps` and `objective`."""
    from ray.tune import schedulers

    from mtl.ray.tune.space import mutations

    length, interval = problem.length, problem.interval
    from mtl.ray.tune.pbt import TunePBT

    shared: dict[str, Any] = {"metric": _METRIC, "mode": _MODE}
    made: dict[str, Callable[[], Any]] = {
        "pbt": lambda: TunePBT(
            "steps",
            perturbation_interval=interval,
            burn_in_period=options.burn_in,
            hyperparam_mutations=mutations(problem.space),
            quantile_fraction=options.quantile,
            resample_probability=options.resample,
            synch=not options.asynchronous,
            seed=problem.seed,
            method=name,
            length=length,
            **shared,
        ),
        "asha": lambda: schedulers.ASHAScheduler(
            "steps", max_t=length, grace_period=interval, reduction_factor=options.eta, **shared
        ),
        # These two count in reports, so that their rungs are at least one segment apart.
        "hyperband": lambda: schedulers.HyperBandScheduler(
            max_t=-(-length // interval), reduction_factor=options.eta, **shared
        ),
        "bohb": lambda: schedulers.HyperBandForBOHB(
            max_t=-(-length // interval), reduction_factor=options.eta, **shared
        ),
        "median": lambda: schedulers.MedianStoppingRule("steps", grace_period=interval, **shared),
        "none": schedulers.FIFOScheduler,
    }
    made["pb2"] = made["pbt"]
    return made[name]()


def make_searcher(name: str, problem: Problem, constants: Mapping[str, Any]) -> Any:
    """The searcher of that name; None for one that needs none, since its configurations are known beforehand.

    Args:
        name: of the searcher.
        problem: has the space and the seed.
        constants: what every configuration has besides.
    """
    from mtl.ray.tune import searchers

    if name == "optuna":
        return searchers.optuna(problem, constants, _METRIC, _MODE)
    if name == "bohb":
        return searchers.bohb(problem, constants, _METRIC, _MODE)
    if name == "hyperopt":
        return searchers.hyperopt(problem, constants, _METRIC, _MODE)
    return None


def configurations(
    searcher: str, problem: Problem, options: MethodOptions, trials: int, constants: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    """The configurations that our own searches would begin with under the same seed."""
    if searcher == "grid":
        values = problem.space.grid(options.grid_points)
    else:
        values = [start.values for start in random_starts(problem, trials)]
    points = [{name: in_words(value) for name, value in some.items()} for some in values]
    return [{**constants, **point, "seed": problem.seed + number} for number, point in enumerate(points)]


def shard_configurations(
    space: Space, seed: int, shards: int, members: int, constants: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    """A configuration for each shard: the whole space, and a seed that leaves room for those of its members."""
    return [{**constants, **space.describe(), "seed": seed + number * members} for number in range(shards)]
