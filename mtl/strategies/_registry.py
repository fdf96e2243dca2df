"""Finds the strategies: every public module of this package is imported, and each strategy defined in one is listed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

import mtl.strategies as package
from mtl.strategies.strategy import Strategy


def _collect() -> dict[str, type[Strategy]]:
    found: dict[str, type[Strategy]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and "needs" in vars(value) and not issubclass(value, Strategy):
                raise RuntimeError(f"{module.__name__}.{value.__name__} has needs, and is no subclass of Strategy")
            if own and issubclass(value, Strategy) and "name" in vars(value):
                if value.name in found:
                    raise RuntimeError(f"two strategies are named {value.name}: {found[value.name]} and {value}")
                found[value.name] = value
    return dict(sorted(found.items()))


REGISTRY: Mapping[str, type[Strategy]] = MappingProxyType(_collect())
