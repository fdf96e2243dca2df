"""Writes everything that the report of a search consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.files.learned import found_loss_file
from mtl.files.whole import write_whole
from mtl.report.again import write_again
from mtl.report.files import write_summary, write_tables
from mtl.report.read import read_config
from mtl.report.search import words
from mtl.report.search.methods import write_methods_report
from mtl.report.search.summary import SearchRun, read_search, summarize_search

_SHOWN = 40  # rows of the table in the page; the CSV file has all


def is_search(directories: Sequence[Path]) -> bool:
    """Whether these are the directories of `mtl search`, rather than of a comparison.

    Raises:
        ValueError: some are and some are not, or one cannot be read; one line.
    """
    searches = [directory for directory in directories if read_config(directory).get("command") == "search"]
    if searches and (others := [directory for directory in directories if directory not in searches]):
        raise ValueError(f"{str(searches[0])!r} is a search and {str(others[0])!r} is none: a report is of one of them")
    return bool(searches)


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
    write_found(summary, out)
    write_summary(out, summary)
    write_tables(out, {"runs": words.runs_table(summary, search.runs), "best": words.metrics_table(summary)})
    from mtl.report.search.figures import draw_search

    write_whole(out / "report.html", _page(summary, search, draw_search(summary, search, out / "figures")))
    return summary


def write_found(summary: Mapping[str, Any], out: Path) -> None:
    """Write a file of each loss that was found, and take away those of an earlier report."""
    files = {found_loss_file(out, task): found["spec"] for task, found in summary["losses"].items()}
    for path in found_loss_file(out, "any").parent.glob("*.json"):
        if path not in files:
            path.unlink()
    if files:
        from mtl.losses.from_file import content  # brings torch, which reports without it do not need

        for path, spec in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content(spec))


def _page(summary: dict[str, Any], search: SearchRun, figures: dict[str, str]) -> str:
    # The template engine is slow to import, and whoever only wants numbers does not need it.
    from mtl.report.html import rendered, settings_of

    return rendered(
        "mtl.report.search",
        "template.html",
        figures,
        summary=summary,
        verdict=words.verdict(summary),
        overview=words.overview(summary),
        notes=[*words.notes(summary), *search.unreadable],
        runs=words.runs_table(summary, search.runs, _SHOWN),
        metrics=words.metrics_table(summary),
        losses=words.found_losses(summary),
        space=list(summary["space"].items()),
        **settings_of(search.config, "search", "training", "device"),
    )
