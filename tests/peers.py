"""Other libraries that tests compare with: a test that calls one which is not installed is skipped, in words."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


def library(module: str) -> Any:
    """The module, or something of whose attributes each skips the test that calls it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.partition(".")[0]
        if error.name != name:
            raise
        return _Absent(name)


class _Absent:
    def __init__(self, library: str) -> None:
        self._library = library

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        pytest.skip(f"needs {self._library}, of the extra `peers`")
