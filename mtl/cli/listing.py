"""`mtl list`: what there is, as tables or JSON."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape
from rich.table import Table

from mtl.benchmarks import BENCHMARKS
from mtl.cli.terminal import console
from mtl.combinators import COMBINATORS
from mtl.hyperparameters import defaults, domains, show
from mtl.losses import LOSSES
from mtl.models import MODELS
from mtl.search.methods import METHODS, find_method
from mtl.strategies import REGISTRY
from mtl.strategy import Strategy

_RATIOS = {"source": 5, "about": 5, "parameters": 4, "needs": 2, "cost": 2, "tasks": 3}


def show_list(what: str, *, as_json: bool) -> None:
    """Print the strategies, benchmarks, losses, models or search methods."""
    rows = {
        "strategies": _strategies,
        "benchmarks": _benchmarks,
        "losses": _losses,
        "models": _models,
        "methods": _methods,
    }[what]()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(show_edge=False, pad_edge=False, expand=True)
    for column in rows[0]:
        if column != "description":
            table.add_column(column, overflow="fold", no_wrap=column == "name", ratio=_RATIOS.get(column))
    for row in rows:
        table.add_row(*(escape(_cell(value)) for key, value in row.items() if key != "description"))
    console.print(table)


def _strategies() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "needs": sorted(cls.needs) if isinstance(cls.needs, frozenset) else "as inner",
            "domain": cls().domain if cls.name in REGISTRY else "as inner",
            "cost": cost_class(cls),
            "parameters": _parameters(cls),
            "source": cls.paper,
            "description": _first_paragraph(cls),
        }
        for name, cls in {**REGISTRY, **COMBINATORS}.items()
    ]


def cost_class(cls: type[Strategy]) -> str:
    """What a step measures beyond one forward and one backward pass, with K tasks."""
    if not isinstance(cls.needs, frozenset):
        return "as inner"
    if "implicit" in cls.needs:
        return "(2 + terms) K bwd + 1 fwd"
    if "cross" in cls.needs:
        return "3K bwd + 2 fwd" if cls.needs & {"gramian", "jacobian"} else "2K + 1 bwd + 2 fwd"
    if "align" in cls.needs:
        return "2K bwd + 1 fwd"
    if cls.needs & {"gramian", "jacobian"}:
        return "K bwd"
    return "1 bwd + 1 fwd" if "after" in cls.needs else "1 bwd"


def _benchmarks() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "tasks": [task.name for task in cls.tasks],
            "needs": cls.install or "nothing more",
            "description": _first_paragraph(cls),
        }
        for name, cls in BENCHMARKS.items()
    ]


def _losses() -> list[dict[str, Any]]:
    return [
        {"name": name, "parameters": _parameters(cls), "about": _first_paragraph(cls)} for name, cls in LOSSES.items()
    ]


def _models() -> list[dict[str, Any]]:
    return [
        {"name": name, "parameters": _parameters(cls), "about": _first_paragraph(cls)} for name, cls in MODELS.items()
    ]


def _methods() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "objectives": "one or several" if (cls := find_method(name)).several else "one",
            "about": cls.about,
            "description": _first_paragraph(cls),
        }
        for name in METHODS
    ]


def _parameters(cls: type) -> list[dict[str, Any]]:
    usual = defaults(cls)
    return [
        {
            "name": key,
            "default": show(usual[key]),
            "range": domain.interval(),
            "search": domain.search,
            "log": domain.log,
            "about": domain.doc,
        }
        for key, domain in domains(cls).items()
    ]


def _first_paragraph(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def _cell(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(f"{item['name']}={item['default'] or '()'}  {item['range']}" for item in value)
    return ", ".join(value) if isinstance(value, list) else str(value)
