"""The benches by name, and what a run of one records."""

from __future__ import annotations

import importlib
import inspect
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from mtl.hyperparameters import nearest

#: Each is a module of this package with `run(...)`, which returns rows with `case, ours, peer, peer_name, ratio`.
BENCHES: Mapping[str, str] = {
    "steps": "a training step of each strategy, against TorchJD, equal weighting and the floor",
    "solvers": "weights from Gramians, against the solvers that peers call",
    "population": "members trained together, against single runs",
    "search": "population-based training, against Ray Tune",
}
_PEERS = ("torch", "numpy", "scipy", "torchjd", "cvxpy", "ecos", "clarabel", "quadprog", "ray")


def available() -> list[str]:
    """Names of the benches that are there."""
    return [name for name in BENCHES if find_spec(f"mtl.bench.{name}") is not None]


def load(name: str) -> ModuleType:
    """The module of a bench; a ValueError names the nearest one."""
    known = available()
    if name not in known:
        raise ValueError(f"unknown bench {name!r}: {nearest(name, known)}")
    return importlib.import_module(f"mtl.bench.{name}")


def run(name: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a bench, run with those options that are not None.

    Raises:
        ValueError: an unknown bench, an option that it does not have, or what the bench itself finds wrong.
    """
    bench = load(name)
    given = {key: value for key, value in options.items() if value is not None}
    taken = inspect.signature(bench.run).parameters
    for key in given:
        if key not in taken:
            raise ValueError(f"--{key} is no option of mtl bench {name}")
    rows: list[dict[str, Any]] = bench.run(**given)
    return rows


def verdicts(name: str, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """What the rows say about the design's bars, where the bench has any."""
    bench = load(name)
    return bench.verdicts(rows) if hasattr(bench, "verdicts") else []


def circumstances(threads: int) -> dict[str, str]:
    """The machine and the versions that times hold for."""
    return {"machine": f"{_processor()}, {os.cpu_count()} CPUs, threads: {threads}", "versions": _versions()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _PEERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
