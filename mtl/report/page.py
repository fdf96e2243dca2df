"""report.html: one file that opens anywhere, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from mtl.report import settings_tables, tables, words
from mtl.report.cost import StepCost
from mtl.report.labels import labels_in_words
from mtl.report.read import Study

_PACKAGE = "mtl.report"
_CODE, _END = "\ue000", "\ue001"  # private-use characters, which outlive escaping
_OWN_SECTIONS = ("versions", "machine", "tasks", "data")


def page(summary: Mapping[str, Any], study: Study, costs: Mapping[str, StepCost], figures: Mapping[str, str]) -> str:
    """The report as HTML; every text that comes from the study is escaped."""
    files = resources.files(_PACKAGE)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    template = environment.from_string((files / "template.html").read_text(encoding="utf-8"))
    config = study.config
    text = template.render(
        style=Markup((files / "style.css").read_text(encoding="utf-8")),
        summary=summary,
        verdict=_with_code(words.verdict(summary, lambda spec: f"{_CODE}{spec}{_END}")),
        notes=words.notes(summary) + study.unreadable,
        method=words.method(summary),
        figures={name: Markup(svg) for name, svg in figures.items()},
        ranking=tables.ranking(summary),
        metrics=tables.metrics(summary),
        single_task=tables.single_task(summary),
        cost=tables.cost(summary, costs),
        tasks=settings_tables.tasks_and_data(config),
        sizes=settings_tables.sizes(config),
        tuned=settings_tables.tuned(study),
        settings=list(flatten({key: value for key, value in config.items() if key not in _OWN_SECTIONS})),
        environment=list(flatten({key: config[key] for key in _OWN_SECTIONS[:2] if key in config})),
        overview=overview(summary, config),
        labels=labels_in_words(summary),
    )
    return text.strip() + "\n"


def _with_code(text: str) -> Markup:
    return Markup(str(escape(text)).replace(_CODE, "<code>").replace(_END, "</code>"))


def _breakable(text: str) -> Markup:
    """Let a long spec break between its parts, and nowhere else."""
    return Markup(re.sub(r"(?<=[+:,])(?=[a-z])", "<wbr>", str(escape(text))))


def overview(summary: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few facts that stand under the title."""
    facts = [
        ("benchmark", summary["benchmark"]),
        ("tasks", str(len(summary["tasks"]))),
        (summary["compared"], str(len(summary["strategies"]))),
        ("seeds", str(len(summary["seeds"]))),
        ("reference", summary["reference"]),
    ]
    length = [(key, str(config[key])) for key in ("epochs", "steps") if config.get(key)]
    return facts + length[:1]


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (dotted name, text)."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from flatten(item, f"{name}.")
        elif isinstance(item, list | tuple):
            yield name, ", ".join(map(str, item)) or "–"
        else:
            yield name, "–" if item is None else str(item)
