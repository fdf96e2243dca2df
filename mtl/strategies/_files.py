"""Strategies in a user's own file, named as `path.py:Class`."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

from mtl.files.python_files import imported
from mtl.strategies._registry import REGISTRY
from mtl.strategies.combinators import COMBINATORS
from mtl.strategies.strategy import SIGNALS, Strategy
from mtl.suggestions import nearest

_PLACE = re.compile(r"(?P<path>.+\.py):(?P<name>[^:]*)(:(?P<settings>.*))?", re.DOTALL)


def parted_place(unit: str) -> tuple[str, str, str] | None:
    """Path, class and settings of `path.py:Class:key=value`; None for the name of a strategy of `mtl`."""
    found = _PLACE.fullmatch(unit.strip())
    return found and (found["path"], found["name"], found["settings"] or "")


def strategy_of_file(path: str, name: str) -> type[Strategy]:
    """The class of a user's file, the same object for the same file; its spec has the whole path.

    Raises:
        ValueError: there is no such file or class, or it is no strategy; one line.
    """
    whole = Path(path).resolve()
    changed = whole.stat().st_mtime_ns if whole.is_file() else 0
    return _read(whole, name, changed)


@functools.cache
def _read(path: Path, name: str, _changed: int) -> type[Strategy]:
    found: Any = getattr(imported(path, "strategy file"), name, None)
    where = f"strategy '{path}:{name}'"
    if not isinstance(found, type):
        raise ValueError(f"{where}: the file has no class {name!r}")
    if not issubclass(found, Strategy):
        raise ValueError(f"{where}: it is no subclass of mtl.Strategy")
    frozen = getattr(vars(found).get("__dataclass_params__"), "frozen", False)
    if not frozen:
        raise ValueError(f"{where}: it has to be a frozen dataclass: @dataclass(frozen=True)")
    if missing := getattr(found, "__abstractmethods__", None):
        raise ValueError(f"{where}: it lacks {', '.join(sorted(missing))}")
    needs = getattr(found, "needs", None)
    if not isinstance(needs, frozenset):
        raise ValueError(f"{where}: needs={needs!r} must be a frozenset of the signals that it reads")
    for signal in sorted(needs - SIGNALS.keys(), key=str):
        raise ValueError(f"{where}: needs {signal!r}, which is no signal: {nearest(str(signal), SIGNALS)}")
    if not isinstance(getattr(found, "name", None), str):
        found.name = name
    if found.name in {**REGISTRY, **COMBINATORS}:
        raise ValueError(f"{where}: its name is {found.name!r}, as that of a strategy of mtl")
    found.place = f"{path}:{name}"
    found.__reduce__ = _reduced  # type: ignore[method-assign, assignment]
    return found


def _reduced(self: Strategy) -> tuple[Any, ...]:
    path, _, name = self.place.rpartition(":")
    return _again, (path, name, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})


def _again(path: str, name: str, values: dict[str, Any]) -> Strategy:
    """A strategy from a pickle, whose file another process has not imported."""
    return strategy_of_file(path, name)(**values)
