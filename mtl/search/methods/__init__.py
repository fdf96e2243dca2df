"""Search methods by name."""

from __future__ import annotations

import importlib

from mtl.search.methods.method import (
    Decision,
    Exploit,
    Method,
    Problem,
    Report,
    Start,
    make_options,
    random_starts,
)
from mtl.search.options import OPTIONS, SPECIAL, MethodOptions
from mtl.suggestions import listed, nearest

__all__ = [
    "METHODS",
    "OPTIONS",
    "SPECIAL",
    "Decision",
    "Exploit",
    "Method",
    "MethodOptions",
    "Problem",
    "Report",
    "Start",
    "find_method",
    "make_options",
    "random_starts",
]

# Modules are named here and imported when asked for: Optuna and scikit-learn take a second that most commands spare.
_CLASSES = {
    "grid": "Grid", "random": "Random", "pbt": "PBT", "pb2": "PB2", "epbt": "EPBT", "asha": "ASHA",
    "hyperband": "Hyperband", "bohb": "BOHB", "tpe": "TPE", "gp": "GP", "nsga2": "NSGA2", "cmaes": "CMAES",
    "evolution": "Evolution",
}  # fmt: skip
#: Names of all methods.
METHODS = tuple(_CLASSES)


def find_method(name: str) -> type[Method]:
    """The method called `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in _CLASSES:
        raise ValueError(f"unknown method {name!r}: {nearest(name, METHODS, listed('methods'))}")
    module = importlib.import_module(f"{__name__}.{name}")
    found: type[Method] = getattr(module, _CLASSES[name])
    return found
