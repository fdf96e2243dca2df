"""Speed benches by name. A new one is a module with a `Bench` and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from mtl.bench.bench import Bench
from mtl.suggestions import nearest

#: The class of each bench as `module:Class`; imported when asked for, since each brings its peers.
BENCHES: Mapping[str, str] = MappingProxyType(
    {
        "steps": "mtl.bench.steps:Steps",
        "solvers": "mtl.bench.solvers:Solvers",
        "population": "mtl.bench.runs:PopulationBench",
        "search": "mtl.bench.runs:SearchBench",
        "data": "mtl.bench.data:DataBench",
    }
)
_OF_RAY = "mtl.bench.engines:EnginesBench"


def find_bench(name: str, engine: str = "population") -> Bench:
    """The bench of that name, of the search the one of that engine; a `ValueError` names the nearest."""
    if name not in BENCHES:
        raise ValueError(f"unknown bench {name!r}: {nearest(name, BENCHES)}")
    if engine != "population" and name != "search":
        raise ValueError(f"--engine {engine}: only the bench of the search has engines")
    module, _, cls = (BENCHES[name] if engine == "population" else _OF_RAY).partition(":")
    bench: Bench = getattr(importlib.import_module(module), cls)()
    return bench
