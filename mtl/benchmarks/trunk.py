"""Whether a benchmark's model is built from `trunk`, so that `--model` and `--dropout` change it."""

from __future__ import annotations

import copy
from typing import Any

from mtl.benchmarks.benchmark import Benchmark


def may_read_trunk(benchmark: Benchmark) -> bool:
    """False where it is clear without data that `model` does not look at `trunk`."""
    return type(benchmark).model is Benchmark.model or hasattr(benchmark, "trunk")


def reads_trunk(benchmark: Benchmark, inputs: Any) -> bool:
    """Whether `model` looks at `trunk`: the one of `Benchmark` does, one of a user's own may. Builds a model to see.

    Args:
        benchmark: a `Benchmark`, or what has its members.
        inputs: a few examples, as `model` gets them.
    """
    kind = type(benchmark)
    if kind.model is Benchmark.model:
        return True
    seen = False

    def trunk(self: Any) -> Any:
        nonlocal seen
        seen = True
        return vars(self).get("trunk", getattr(kind, "trunk", ""))

    watched = copy.copy(benchmark)
    try:
        watched.__class__ = type(kind.__name__, (kind,), {"trunk": property(trunk)})
    except TypeError:  # a class with slots: its instances cannot be watched
        return True
    watched.model(benchmark.tasks, inputs)
    return seen
