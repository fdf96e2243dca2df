"""report.html of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from mtl.report import settings_tables, tables, words
from mtl.report.cost import StepCost
from mtl.report.html import rendered, settings_of
from mtl.report.labels import labels_in_words
from mtl.report.read import Study

_CODE, _END = "\ue000", "\ue001"  # private-use characters, which outlive escaping
_OWN_SECTIONS = ("versions", "machine", "tasks", "data")


def page(
    summary: Mapping[str, Any],
    study: Study,
    costs: Mapping[str, StepCost],
    figures: Mapping[str, str],
    learned: Sequence[tuple[str, str]] = (),
) -> str:
    """The report as HTML; every text that comes from the study is escaped.

    Args:
        summary: as in summary.json.
        study: what the directories hold.
        costs: of a step, by strategy.
        figures: SVG by name.
        learned: losses that were learned, a task and what `--loss` takes each.
    """
    config = study.config
    return rendered(
        "mtl.report",
        "template.html",
        figures,
        summary=summary,
        verdict=_with_code(words.verdict(summary, lambda spec: f"{_CODE}{spec}{_END}")),
        notes=words.notes(summary) + study.unreadable,
        method=words.method(summary),
        ranking=tables.ranking(summary),
        metrics=tables.metrics(summary),
        single_task=tables.single_task(summary),
        cost=tables.cost(summary, costs),
        learned=learned,
        tasks=settings_tables.tasks_and_data(config),
        sizes=settings_tables.sizes(config),
        tuned=settings_tables.tuned(study),
        overview=overview(summary, config),
        labels=labels_in_words(summary),
        **settings_of(config, *(key for key in config if key not in _OWN_SECTIONS)),
    )


def _with_code(text: str) -> Markup:
    return Markup(str(escape(text)).replace(_CODE, "<code>").replace(_END, "</code>"))


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
