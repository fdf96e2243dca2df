"""Finds a benchmark by its name, or in a user's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtl.benchmarks.adult import Adult
from mtl.benchmarks.benchmark import Benchmark
from mtl.benchmarks.celeba import CelebA
from mtl.benchmarks.census import Census
from mtl.benchmarks.checked import check_tasks
from mtl.benchmarks.chemicals import Chemicals
from mtl.benchmarks.cityscapes import Cityscapes
from mtl.benchmarks.losses import named_with, parted, with_losses
from mtl.benchmarks.movielens import MovieLens
from mtl.benchmarks.multidigits import MultiDigits
from mtl.benchmarks.nyuv2 import NYUv2
from mtl.benchmarks.office import Office, OfficeHome
from mtl.benchmarks.overlaid import FashionMNIST, MultiFashion, MultiMNIST
from mtl.benchmarks.qm9 import QM9
from mtl.benchmarks.reviews import Reviews
from mtl.benchmarks.rf1 import RF1
from mtl.benchmarks.sarcos import Sarcos
from mtl.benchmarks.scenes import Scenes
from mtl.benchmarks.table_file import TableFile, named_table
from mtl.benchmarks.yeast import Yeast
from mtl.files.python_files import imported
from mtl.files.table_name import parted_table
from mtl.messages import in_one_line
from mtl.suggestions import listed, nearest

_SHIPPED: tuple[type[Benchmark], ...] = (
    *(MultiDigits, RF1, MultiMNIST, MultiFashion, FashionMNIST),
    *(Yeast, Chemicals, Adult, Census, MovieLens),
    *(Reviews, QM9, Scenes),
    *(NYUv2, Cityscapes, CelebA, Office, OfficeHome, Sarcos),
)
BENCHMARKS: Mapping[str, type[Benchmark]] = MappingProxyType({cls.name: cls for cls in _SHIPPED})

_MEMBERS = {
    "name": "a string",
    "tasks": "a sequence of Task",
    "load": "a method that returns Splits",
    "model": "a method model(tasks, inputs) that returns a module",
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name, or the class that `path.py:Class` names; `NAME[TASK=SPEC]` has another loss.

    `path.csv:COLUMN,COLUMN:KIND` is a table in a text file, of which these columns are asked.

    Raises:
        ValueError: no such benchmark, file or class, or a class that lacks a member; one line.
    """
    plain, specs = parted(name)
    return with_losses(find_benchmark(plain), specs) if specs else _found(name)


def _found(name: str) -> Benchmark:
    if table := parted_table(name):
        return TableFile(*table)
    if ":" not in name:
        if name not in BENCHMARKS:
            hint = nearest(name, BENCHMARKS, listed("benchmarks"))
            raise ValueError(f"unknown benchmark {name!r}: {hint} (or give path.py:Class or table.csv)")
        return BENCHMARKS[name]()
    path, _, cls_name = name.rpartition(":")
    cls = getattr(imported(Path(path), "benchmark file"), cls_name, None)
    if not isinstance(cls, type):
        raise ValueError(f"benchmark {name!r}: {path} has no class {cls_name!r}")
    for member, meaning in _MEMBERS.items():
        abstract = member in getattr(cls, "__abstractmethods__", ())
        if abstract or not hasattr(cls, member):
            raise ValueError(f"benchmark {name!r}: class {cls_name} lacks {member!r}, {meaning}")
    try:
        made: Any = cls()
    except Exception as error:
        raise ValueError(f"benchmark {name!r}: {cls_name}() failed: {in_one_line(error)}") from error
    check_tasks(made)
    return made  # type: ignore[no-any-return]


def resolved_name(name: str) -> str:
    """The name by which `find_benchmark` finds the same benchmark from any directory."""
    plain, specs = parted(name)
    if table := parted_table(plain):
        path, targets = table
        return named_with(named_table(str(Path(path).resolve()), targets), specs)
    path, colon, cls_name = plain.rpartition(":")
    return named_with(f"{Path(path).resolve()}:{cls_name}" if colon else plain, specs)
