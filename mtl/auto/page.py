"""Writes what a decision leaves beside its runs: summary.json, tables, figures, best.yaml and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from mtl.auto import words
from mtl.auto.summary import AutoStudy, read_decision, summarize_decision
from mtl.files.whole import replaced
from mtl.report.again import write_again


def write_decision(directory: Path, out: Path) -> dict[str, Any]:
    """Read the directory of a decision and write its report into `out`.

    Returns:
        The summary, as it stands in summary.json.

    Raises:
        ValueError: the directory cannot be read.
        OSError: `out` cannot be written.
    """
    study = read_decision(directory)
    summary = summarize_decision(study)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_again(summary["train"], out)
    if summary["finalists"]:
        table, folder = words.finalists_table(summary), out / "tables"
        folder.mkdir(exist_ok=True)
        _write(folder / "finalists.md", table.markdown())
        _write(folder / "finalists.csv", table.csv())
        _write(folder / "finalists.tex", table.latex())
    from mtl.auto.figures import draw_decision  # brings matplotlib

    _write(out / "report.html", _page(summary, study, draw_decision(summary, study, out / "figures")))
    return summary


def _page(summary: Mapping[str, Any], study: AutoStudy, figures: Mapping[str, str]) -> str:
    # The template engine is slow to import, and whoever only wants numbers does not need it.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from mtl.report.page import flatten

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((resources.files("mtl.auto") / "template.html").read_text(encoding="utf-8"))
    config = study.config
    text = template.render(
        style=Markup((resources.files("mtl.report") / "style.css").read_text(encoding="utf-8")),
        summary=summary,
        verdict=words.verdict(summary),
        overview=words.overview(summary),
        finalists=words.finalists_table(summary) if summary["finalists"] else None,
        points=[(each["label"], words.described(each["train"])) for each in summary["finalists"]],
        decisions=study.state.plan.words(config["auto"]["time"]) if study.state.plan else [],
        path=words.path_table(summary) if summary["path"] else None,
        importance=words.importance(summary),
        figures={name: Markup(svg) for name, svg in figures.items()},
        notes=[*words.notes(summary, config["auto"]["remarks"]), *study.unreadable],
        space=list(summary["space"].items()),
        settings=list(flatten({key: config[key] for key in ("training", "device") if key in config})),
        environment=list(flatten({key: config[key] for key in ("versions", "machine") if key in config})),
    )
    return text.strip() + "\n"


def _write(path: Path, text: str) -> None:
    with replaced(path) as file:
        file.write(text.encode())
