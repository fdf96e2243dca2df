"""A benchmark that the processes of a cluster find again."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from mtl.benchmarks import Benchmark, find_benchmark
from mtl.benchmarks.catalogue import resolved_name


def spec_of(benchmark: Benchmark | type[Benchmark] | str) -> str:
    """A name that `find_benchmark` takes from any working directory.

    Raises:
        ValueError: an object of a class that stands in no file.
    """
    if isinstance(benchmark, str):
        return resolved_name(benchmark)
    cls = benchmark if isinstance(benchmark, type) else type(benchmark)
    if cls.__module__.startswith("mtl."):
        return cls.name
    try:
        return f"{Path(inspect.getfile(cls)).resolve()}:{cls.__qualname__}"
    except (OSError, TypeError) as error:
        raise ValueError(f"benchmark {cls.__qualname__}: its class must stand in a file: {error}") from error


def found(benchmark: Any) -> Benchmark:
    """The benchmark, given its name or itself."""
    return find_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
