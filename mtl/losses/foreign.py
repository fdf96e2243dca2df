"""Losses of any library or file, `package.module:Class` or `path.py:Name`: classes, functions, losses made there."""

from __future__ import annotations

import functools
import importlib
import inspect
from pathlib import Path
from typing import Any

from mtl.files.python_files import imported
from mtl.losses.loss import Loss
from mtl.losses.wrapped import Instance, Wrapped, wrapper
from mtl.messages import in_one_line, kind_of
from mtl.suggestions import nearest


def foreign_loss(place: str) -> type[Loss]:
    """The class of losses that `package.module:Name` or `path.py:Name` names.

    A `Loss` of a user's own is taken as it is; anything else is wrapped.

    Raises:
        ValueError: there is no such file, module or name, or it is no loss; one line.
    """
    where, _, name = place.rpartition(":")
    if where.endswith(".py"):
        path = Path(where).expanduser().resolve()
        return _found(f"{path}:{name}", path.stat().st_mtime_ns if path.is_file() else 0)
    return _found(place, 0)


@functools.cache
def _found(place: str, _written: int) -> type[Loss]:
    """By what it names, and when a file was written: a loss keeps its class, and an edited file is read again."""
    where, _, name = place.rpartition(":")
    source = imported(Path(where), "loss file") if where.endswith(".py") else _module(place, where)
    target = getattr(source, name, None)
    if target is None:
        there = [each for each in vars(source) if not each.startswith("_") and callable(getattr(source, each))]
        raise ValueError(f"loss {place!r}: {where} has no {name!r}: {nearest(name, there)}")
    if isinstance(target, type) and issubclass(target, Loss):
        return _named(place, target)
    if isinstance(target, Loss):
        raise ValueError(f"loss {place!r}: it is {str(target)!r}, a loss that is made already: take this spec itself")
    if not callable(target):
        raise ValueError(f"loss {place!r}: {name} is {kind_of(target)}, not a class or a function")
    if isinstance(target, type) or inspect.isroutine(target):
        return wrapper(place, target, foreign_loss)
    return _ready(place, target)


def _named(place: str, cls: type[Loss]) -> type[Loss]:
    """A user's own loss under the spec that finds it again."""
    return type(cls.__name__, (cls,), {"name": place, "__doc__": cls.__doc__, "__module__": cls.__module__})


def _ready(place: str, target: Any) -> type[Wrapped]:
    about = f"`{place}`, as it was made there."
    made = {"name": place, "wraps": staticmethod(target), "found_by": staticmethod(foreign_loss), "__doc__": about}
    return type(type(target).__name__, (Instance,), made)


def _module(place: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        lacking = error.name or name
        hint = "" if f"{name}.".startswith(f"{lacking}.") else f", which {name} needs,"
        raise ValueError(f"loss {place!r}: the module {lacking!r}{hint} is not installed") from error
    except Exception as error:
        raise ValueError(f"loss {place!r}: {name} fails to import: {in_one_line(error)}") from error
