"""Whether a benchmark's model is built from `trunk` and `architecture`, so that `--model` and others change it."""

from __future__ import annotations

import copy
from typing import Any

from mtl.benchmarks.benchmark import Benchmark


def may_read_trunk(benchmark: Benchmark, name: str = "trunk") -> bool:
    """False where it is clear without data that `model` does not look at `trunk`, or at another attribute."""
    return type(benchmark).model is Benchmark.model or hasattr(benchmark, name)


def reads_trunk(benchmark: Benchmark, inputs: Any, name: str = "trunk") -> bool:
    """Whether `model` looks at `trunk`: the one of `Benchmark` does, one of a user's own may. Builds a model to see.

    Args:
        benchmark: a `Benchmark`, or what has its members.
        inputs: a few examples, as `model` gets them.
        name: of the attribute, `trunk` or `architecture`.
    """
    kind = type(benchmark)
    if kind.model is Benchmark.model:
        return True
    seen = False

    def look(self: Any) -> Any:
        nonlocal seen
        seen = True
        return vars(self).get(name, getattr(kind, name, ""))

    watched = copy.copy(benchmark)
    try:
        watched.__class__ = type(kind.__name__, (kind,), {name: property(look)})
    except TypeError:  # a class with slots: its instances cannot be watched
        return True
    watched.model(benchmark.tasks, inputs)
    return seen
