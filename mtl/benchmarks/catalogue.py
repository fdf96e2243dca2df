"""Finds a benchmark by its name, or in a user's file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtl.benchmarks.benchmark import Benchmark
from mtl.benchmarks.checked import check_tasks
from mtl.benchmarks.chemicals import Chemicals
from mtl.benchmarks.multidigits import MultiDigits
from mtl.benchmarks.overlaid import FashionMNIST, MultiFashion, MultiMNIST
from mtl.benchmarks.rf1 import RF1
from mtl.benchmarks.yeast import Yeast
from mtl.hyperparameters import nearest

_SHIPPED: tuple[type[Benchmark], ...] = (
    *(MultiDigits, RF1, MultiMNIST, MultiFashion, FashionMNIST),
    *(Yeast, Chemicals),
)
BENCHMARKS: Mapping[str, type[Benchmark]] = MappingProxyType({cls.name: cls for cls in _SHIPPED})

_MEMBERS = {
    "name": "a string",
    "tasks": "a sequence of Task",
    "load": "a method that returns Splits",
    "model": "a method model(tasks, inputs) that returns a module",
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name, or the class that `path.py:Class` names.

    Raises:
        ValueError: no such benchmark, file or class, or a class that lacks a member; one line.
    """
    if ":" not in name:
        if name not in BENCHMARKS:
            raise ValueError(f"unknown benchmark {name!r}: {nearest(name, BENCHMARKS)} (or give path.py:Class)")
        return BENCHMARKS[name]()
    path, _, cls_name = name.rpartition(":")
    cls = getattr(_imported(Path(path)), cls_name, None)
    if not isinstance(cls, type):
        raise ValueError(f"benchmark {name!r}: {path} has no class {cls_name!r}")
    for member, meaning in _MEMBERS.items():
        abstract = member in getattr(cls, "__abstractmethods__", ())
        if abstract or not hasattr(cls, member):
            raise ValueError(f"benchmark {name!r}: class {cls_name} lacks {member!r}, {meaning}")
    try:
        made: Any = cls()
    except Exception as error:
        raise ValueError(f"benchmark {name!r}: {cls_name}() failed: {type(error).__name__}: {error}") from error
    check_tasks(made)
    return made  # type: ignore[no-any-return]


def resolved_name(name: str) -> str:
    """The name by which `find_benchmark` finds the same benchmark from any directory."""
    path, colon, cls_name = name.rpartition(":")
    return f"{Path(path).resolve()}:{cls_name}" if colon else name


def _imported(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"benchmark file {str(path)!r} does not exist")
    spec = importlib.util.spec_from_file_location(f"mtl_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"benchmark file {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    if (beside := str(path.resolve().parent)) not in sys.path:
        sys.path.append(beside)  # for what the file imports from beside itself; what is installed comes before it
    sys.modules[spec.name] = module  # dataclasses in the file look themselves up here
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"benchmark file {str(path)!r} fails to import: {type(error).__name__}: {error}") from error
    return module
