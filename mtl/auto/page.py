"""Writes what a decision leaves beside its runs: summary.json, tables, figures, best.yaml and report.html."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl.auto import words
from mtl.auto.summary import AutoStudy, read_decision, summarize_decision
from mtl.files.whole import write_whole
from mtl.report.again import write_again
from mtl.report.files import write_summary, write_tables


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
    write_summary(out, summary)
    write_again(summary["train"], out)
    if summary["finalists"]:
        write_tables(out, {"finalists": words.finalists_table(summary)})
    from mtl.auto.figures import draw_decision  # brings matplotlib

    write_whole(out / "report.html", _page(summary, study, draw_decision(summary, study, out / "figures")))
    return summary


def _page(summary: Mapping[str, Any], study: AutoStudy, figures: Mapping[str, str]) -> str:
    # The template engine is slow to import, and whoever only wants numbers does not need it.
    from mtl.report.html import rendered, settings_of

    config = study.config
    return rendered(
        "mtl.auto",
        "template.html",
        figures,
        summary=summary,
        verdict=words.verdict(summary),
        overview=words.overview(summary),
        finalists=words.finalists_table(summary) if summary["finalists"] else None,
        points=[(each["label"], words.described(each["train"])) for each in summary["finalists"]],
        decisions=study.state.plan.words(config["auto"]["time"]) if study.state.plan else [],
        path=words.path_table(summary) if summary["path"] else None,
        importance=words.importance(summary),
        notes=[*words.notes(summary, config["auto"]["remarks"]), *study.unreadable],
        space=list(summary["space"].items()),
        **settings_of(config, "training", "device"),
    )
