"""Spaces for scripts of Ray Tune, and Tune's configurations as our values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.search.sample import Categorical, Domain, Float, Function, Integer, LogUniform, Uniform

from mtl.benchmarks.benchmark import Benchmark
from mtl.hyperparameters import domains, kinds_of
from mtl.losses import make_loss
from mtl.ray.tune.benchmark import found
from mtl.search.space import Space, Values
from mtl.search.space.build import SETTINGS, build_space
from mtl.search.space.dimension import Dimension
from mtl.search.space.grammar import Bounds, Listed, Range, Word, read_range
from mtl.search.space.parameters import Choice, Number, Parameter, Simplex
from mtl.search.space.to_tune import NONE, distribution, in_words
from mtl.strategies import make, units
from mtl.train import Settings
from mtl.train.heads import head_names

_SHARE = re.compile(r"(.*)\[(\d+)\]")  # of weights on the simplex, one by one


def param_space(
    benchmark: Benchmark | str, strategies: Sequence[str], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The space of a search in Ray Tune's distributions, for `Tuner(param_space=...)`.

    A parameter that exists only beside certain choices of another is None elsewhere. Searchers that cannot draw such
    parameters get `to_tune(space.dimensions, conditional=False)` of `mtl.search.space.to_tune`.

    Args:
        benchmark: its name, `path.py:Class`, or itself.
        strategies: specs, chains such as `uncertainty+gradnorm` included.
        given: ranges by name over those that the strategies declare, as on the command line: `{"lr":
            "1e-4:1e-2:log", "dropout": "0:0.5", "loss.TASK": ["mse", "huber"], "strategy.static.weights": "simplex"}`.

    Raises:
        ValueError: a name that does not exist, a range outside what is accepted; one line.
    """
    return space_of(benchmark, strategies, given).to_tune()


def space_of(benchmark: Benchmark | str, strategies: Sequence[str], given: Mapping[str, Any] | None = None) -> Space:
    """The space of a search as an object of ours, for `mutations`. The arguments are those of `param_space`."""
    ranges = {name: _range(name, value) for name, value in (given or {}).items()}
    return build_space(found(benchmark), strategies, ranges)


def from_config(config: Mapping[str, Any]) -> Values:
    """The values that a configuration of Ray Tune stands for: those that exist beside its choices."""
    values = {name: value for name, value in config.items() if value is not None and not _SHARE.fullmatch(name)}
    shares: dict[str, dict[int, float]] = {}
    for name, value in config.items():
        if match := _SHARE.fullmatch(name):
            shares.setdefault(match[1], {})[int(match[2])] = value
    for name, some in shares.items():
        values[name] = Simplex(len(some)).from_shares([some[place] for place in sorted(some)])
    own = {part.name: type(part) for part in units(make(values["strategy"]))}
    return {name: _read(name, value, values, own) for name, value in values.items() if _exists(name, values, own)}


class Mutations(dict[str, Any]):
    """`hyperparam_mutations` that know which parameter exists beside which choice; made by `mutations`."""

    def __init__(self, space: Space) -> None:
        varied = {name: space.dimensions[name].parameter for name in space.varied}
        super().__init__(
            {
                name: [*map(in_words, p.choices)] if isinstance(p, Choice) else distribution(p)
                for name, p in varied.items()
            }
        )
        self.space = space

    def __reduce__(self) -> tuple[Any, ...]:
        return Mutations, (self.space,)


def mutations(space: Space) -> Mutations:
    """What `mtl.ray.PBT(hyperparam_mutations=...)` explores, from `mtl.ray.space_of(...)`.

    Numbers move within their bounds, choices are drawn anew now and then, and what exists only beside some choices
    comes and goes with them.
    """
    return Mutations(space)


def explored(given: Mapping[str, Any]) -> Space:
    """The space of `hyperparam_mutations`, ours or a plain dict of Ray Tune's distributions and lists.

    Raises:
        ValueError: something that has no bounds, such as a function; one line.
    """
    if isinstance(given, Mutations):
        return given.space
    return Space({name: Dimension(_parameter(name, value)) for name, value in given.items()})


def _parameter(name: str, value: Any) -> Parameter:
    where = f"hyperparam_mutations: {name}={value!r}"
    if isinstance(value, Categorical):
        return Choice(tuple(value.categories))
    if isinstance(value, list | tuple) and value:
        return Choice(tuple(value))
    if isinstance(value, Function) or not isinstance(value, Float | Integer):
        raise ValueError(f"{where}: a range such as tune.uniform(0, 1) or a list of values is wanted")
    sampler: Any = value.get_sampler()  # type: ignore[no-untyped-call]
    sampler = getattr(sampler, "sampler", sampler)  # of a quantized range
    if (
        not isinstance(sampler, Uniform | LogUniform)
        or not math.isfinite(value.lower)
        or not math.isfinite(value.upper)
    ):
        raise ValueError(f"{where}: it has no bounds; tune.uniform, loguniform, randint and lograndint have")
    integer = isinstance(value, Integer)
    upper = value.upper - 1 if integer else value.upper
    return Number(value.lower, upper, isinstance(sampler, LogUniform), integer)


def _range(name: str, value: Any) -> Range:
    if isinstance(value, Bounds | Listed | Word):
        return value
    if isinstance(value, Domain):
        raise ValueError(f"given: {name}: a range in our words is wanted, such as '1e-4:1e-2:log', not {value!r}")
    return read_range(name, ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def _exists(name: str, values: Values, own: Mapping[str, type]) -> bool:
    """Whether a parameter exists beside the chosen strategy and losses; names that we do not know are refused later."""
    kind, _, rest = name.partition(".")
    first, _, key = rest.rpartition(".")
    if kind == "strategy" and rest:
        return first in own
    if kind == "loss" and first and f"loss.{first}" in values:
        return key in domains(make_loss(values[f"loss.{first}"]))
    return True


def _read(name: str, value: Any, values: Values, own: Mapping[str, type]) -> Any:
    """A value of a configuration in Python's own types; the word for None as that where the parameter may be None."""
    kind, _, rest = name.partition(".")
    first, _, key = rest.rpartition(".")
    if value != NONE or name == "strategy" or (kind == "loss" and not first):
        return _python_value(value)
    if kind == "strategy":
        owner: type = own[first]
    elif kind == "loss":
        chosen = values.get(f"loss.{first}")
        if chosen is None:
            return None  # no number or spec is written so
        owner = type(make_loss(chosen))
    else:
        owner, key = Settings, f"head_{key}" if kind == "heads" and rest else name
    return None if type(None) in kinds_of(owner, key) else value


def check_names(config: Mapping[str, Any], others: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise `ValueError` for a name that is no value of a run.

    Args:
        config: of a trial.
        others: what else a configuration may hold.
        tasks: names of the benchmark's.
    """
    from mtl.suggestions import nearest

    for name in config:
        kind, _, rest = name.partition(".")
        known = name in (*SETTINGS, *others, *head_names(tasks), "strategy") or (kind == "strategy" and rest)
        if not known and not (kind == "loss" and any(f"{rest}.".startswith(f"{task}.") for task in tasks)):
            words = [*SETTINGS, *others, "strategy", *(f"loss.{task}" for task in tasks), *head_names(tasks)]
            raise ValueError(f"config: unknown name {name!r}: {nearest(name, words)}")


def _python_value(value: Any) -> Any:
    """Numbers of NumPy, which some searchers give, as Python's; lists as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(value) if isinstance(value, list) else value
