"""Writes everything that the report of a search consists of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mtl.report.again import write_again
from mtl.report.read import read_config
from mtl.report.search import words
from mtl.report.search.methods import write_methods_report
from mtl.report.search.summary import SearchRun, read_search, summarize_search

_SHOWN = 40  # rows of the table in the page; the CSV file has all


def is_search(directories: Sequence[Path]) -> bool:
    """Whether these are the directories of `mtl search`, rather than of a comparison."""
    return any(read_config(directory).get("command") == "search" for directory in directories)


def write_search_report(directories: Sequence[Path], out: Path) -> dict[str, Any]:
    """Read a search, or those of several methods, and write summary.json, report.html and the rest into `out`.

    Raises:
        ValueError: one cannot be read, or several are not of one problem.
        OSError: `out` cannot be written.
    """
    if len(directories) > 1:
        return write_methods_report(directories, out)
    search = read_search(directories[0])
    summary = summarize_search(search)
    out.mkdir(parents=True, exist_ok=True)
    write_again(summary["again"], out)
    _write(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    folder = out / "tables"
    folder.mkdir(exist_ok=True)
    for name, table in (
        ("runs", words.runs_table(summary, search.runs)),
        ("best", words.metrics_table(summary)),
    ):
        _write(folder / f"{name}.md", table.markdown())
        _write(folder / f"{name}.csv", table.csv())
        _write(folder / f"{name}.tex", table.latex())
    from mtl.report.search.figures import draw_search

    _write(out / "report.html", _page(summary, search, draw_search(summary, search, out / "figures")))
    return summary


def _page(summary: dict[str, Any], search: SearchRun, figures: dict[str, str]) -> str:
    # The template engine is slow to import, and whoever only wants numbers does not need it.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from mtl.report.page import flatten

    files = resources.files("mtl.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(templates("macros.html", "template.html"))
    config = search.config
    text = template.render(
        style=Markup((files / "style.css").read_text(encoding="utf-8")),
        summary=summary,
        verdict=words.verdict(summary),
        notes=[*words.notes(summary), *search.unreadable],
        figures={name: Markup(svg) for name, svg in figures.items()},
        runs=words.runs_table(summary, search.runs, _SHOWN),
        metrics=words.metrics_table(summary),
        losses=words.found_losses(summary),
        space=list(summary["space"].items()),
        settings=list(flatten({key: config[key] for key in ("search", "training", "device") if key in config})),
        environment=list(flatten({key: config[key] for key in ("versions", "machine") if key in config})),
    )
    return text.strip() + "\n"


def templates(*names: str) -> str:
    """Templates of this folder, one behind the other."""
    folder = resources.files("mtl.report") / "search"
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def _write(path: Path, text: str) -> None:
    """All or nothing: a full disk leaves the former file."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
