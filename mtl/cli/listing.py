"""`mtl list`: what there is, for people and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from mtl.cli.console import console
from mtl.cli.errors import BadInput
from mtl.hyperparameters import defaults, domains, show

if TYPE_CHECKING:  # what is listed is imported where it is, and the rest is not
    from mtl.benchmarks import Benchmark
    from mtl.strategies.strategy import Strategy

_TORCH = "torch.nn"
_RATIOS = {"about": 5, "parameters": 4, "data": 3, "tasks": 3, "shared": 2, "paper": 3}
#: What a step costs, from the cheapest.
COSTS = (
    "1 bwd",
    "1 bwd + 1 fwd",
    "K bwd",
    "2K bwd + 1 fwd",
    "2K + 1 bwd + 2 fwd",
    "3K bwd + 2 fwd",
    "(2 + terms) K bwd + 1 fwd",
    "as inner",
)


def show_list(what: str, *, grep: str | None, by_cost: bool, as_json: bool) -> None:
    """Print the strategies, benchmarks, losses, models, architectures or search methods.

    Args:
        what: of these.
        grep: only rows that have this text somewhere, in any case of letters.
        by_cost: strategies by what a step costs; otherwise by group.
        as_json: all that is known of each, as a list.

    Raises:
        BadInput: no row has the text.
    """
    rows = {
        "strategies": _strategies,
        "benchmarks": _benchmarks,
        "losses": _losses,
        "models": _models,
        "architectures": _architectures,
        "methods": _methods,
    }[what]()
    if grep is not None:
        rows = [row for row in rows if grep.casefold() in json.dumps(row, ensure_ascii=False).casefold()]
        if not rows:
            raise BadInput(f"--grep {grep}: no {what} with this text; `mtl list {what}` shows all")
    if by_cost:
        rows.sort(key=lambda row: COSTS.index(row["cost"]))
    if as_json:
        print(json.dumps(rows, indent=2))
    elif what == "strategies":
        _show_strategies(rows, by_cost=by_cost)
    elif what == "losses":
        _show_losses(rows)
    else:
        _show_table(rows)


def _show_table(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(show_edge=False, pad_edge=False, expand=True)
    for column in rows[0]:
        if column != "description":
            table.add_column(column, overflow="fold", no_wrap=column == "name", ratio=_RATIOS.get(column))
    for row in rows:
        table.add_row(*(escape(_cell(value)) for key, value in row.items() if key != "description"))
    console.print(table)


def _show_strategies(rows: Sequence[dict[str, Any]], *, by_cost: bool) -> None:
    """A paragraph for each, wrapped at the width of the terminal."""
    from mtl.cli.groups import GROUPS

    _say(
        "In brackets: what a step costs, in forward and backward passes with K tasks, and which losses it is made for."
    )
    if by_cost:
        for row in rows:
            _show_strategy(row, f"{row['cost']}; {row['group']}")
        return
    for group, advice in GROUPS.items():
        if inside := [row for row in rows if row["group"] == group]:
            _say("")
            _say(f"{group.upper()} ({len(inside)})")
            _say(f"Which one should I use? {advice}", "  ")
            for row in inside:
                _show_strategy(row, row["cost"])


def _show_strategy(row: dict[str, Any], head: str) -> None:
    losses = "" if row["domain"] in ("any", "as inner") else f"; {row['domain']} losses"
    _say("")
    _say(f"{row['name']}  ({head}{losses})")
    _say(row["description"], "    ")
    for parameter in row["parameters"]:
        _say(f"{parameter['name']}={parameter['default'] or '()'}  {parameter['range']}  {parameter['about']}", "    ")
    if row["source"]:
        _say(row["source"], "    ")


def _show_losses(rows: Sequence[dict[str, Any]]) -> None:
    """A paragraph for each, below what it is for."""
    from mtl.losses import FAMILIES

    for family in FAMILIES:
        if inside := [row for row in rows if row["for"] == family]:
            _say(f"FOR {family.upper()} ({len(inside)})")
        for row in inside:
            _say("")
            _say(f"{row['name']}  {row['about']}")
            _say(row["formula"], "    ")
            for each in row["parameters"]:
                searched = f", searched from {each['search'][0]:g} to {each['search'][1]:g}" if each["search"] else ""
                _say(f"{each['name']}={each['default']}  {each['range']}{searched}: {each['about']}", "    ")
            _say(f"Use: {row['use']}.", "    ")
            _say(f"{row['source']}", "    ")
        if inside:
            _say("")
    if of_torch := [row for row in rows if row["for"] == _TORCH]:
        _say(f"OF TORCH.NN, BY THEIR OWN NAMES AND ARGUMENTS ({len(of_torch)})")
        for row in of_torch:
            given = "".join(f"  {each['name']}={each['default']}" for each in row["parameters"])
            _say(f"{row['name']}{given}  {row['use']}", "    ")
        _say("")
    _say("Of any library or file: package.module:Name, path.py:Name; sums: mae+0.1*mse. `mtl check-loss` tests any.")
    _say("apart:mae+0.1*mse is the sum whose parts the strategy weighs, each as a loss of its own.")


def _say(text: str, indent: str = "") -> None:
    further = indent + "  " if indent else ""
    lines = textwrap.wrap(
        text,
        console.width,
        initial_indent=indent,
        subsequent_indent=further,
        break_on_hyphens=False,  # names such as db-mtl stay whole
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _strategies() -> list[dict[str, Any]]:
    from mtl.cli.groups import group_of
    from mtl.strategies import REGISTRY
    from mtl.strategies.combinators import COMBINATORS

    return [
        {
            "name": name,
            "group": group_of(cls),
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
    from mtl.benchmarks import BENCHMARKS

    return [
        {
            "name": name,
            "tasks": [task.name for task in cls.tasks],
            "data": _whether_ready(cls),
            "description": _first_paragraph(cls),
        }
        for name, cls in BENCHMARKS.items()
    ]


def _whether_ready(cls: type[Benchmark]) -> str:
    """Whether the data is here, or how it comes here."""
    from mtl.benchmarks import MissingData

    try:
        cls().files()
    except MissingData as error:
        return cls.install or str(error)
    return "ready"


def _losses() -> list[dict[str, Any]]:
    from mtl.losses import FAMILIES
    from mtl.losses.torch_losses import torch_loss, torch_names

    ours = [
        {
            "name": cls.name,
            "for": family,
            "about": _first_paragraph(cls),
            "formula": cls.formula,
            "parameters": _parameters(cls),
            "use": cls.use,
            "source": cls.paper,
        }
        for family, classes in FAMILIES.items()
        for cls in classes
    ]
    of_torch = [
        {
            "name": name,
            "for": _TORCH,
            "about": _first_paragraph(torch_loss(name)),
            "formula": "",
            "parameters": _parameters(torch_loss(name)),
            "use": f"for {torch_loss(name)().examples or 'numbers'}",
            "source": f"torch.nn.{name}",
        }
        for name in torch_names()
    ]
    return [*ours, *of_torch]


def _models() -> list[dict[str, Any]]:
    from mtl.models import MODELS

    return [
        {"name": name, "parameters": _parameters(cls), "about": _first_paragraph(cls), "paper": cls.paper}
        for name, cls in MODELS.items()
    ]


def _architectures() -> list[dict[str, Any]]:
    from mtl.models import ARCHITECTURES

    return [
        {
            "name": name,
            "parameters": _parameters(cls),
            "about": _first_paragraph(cls),
            "shared": cls.shared,
            "paper": cls.paper,
        }
        for name, cls in ARCHITECTURES.items()
    ]


def _methods() -> list[dict[str, Any]]:
    from mtl.search.methods import METHODS, find_method

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
