"""Writes everything that a report consists of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl.report import tables
from mtl.report.again import write_again
from mtl.report.cost import costs
from mtl.report.read import read_study
from mtl.report.search import is_search, write_search_report
from mtl.report.summary import summarize


def write_report(directories: Sequence[Path], out: Path) -> dict[str, Any]:
    """Read run directories and write summary.json, best.yaml, tables/, figures/ and report.html into `out`.

    Args:
        directories: of one search, or of one comparison, such as the parts of a SLURM array; nothing in them changes.
        out: made when absent; may be one of the directories.

    Returns:
        The summary, as it stands in summary.json.

    Raises:
        ValueError: a directory cannot be read, holds no finished run, or another benchmark than the first.
        OSError: `out` cannot be written.
    """
    if directories and is_search(directories):
        return write_search_report(directories, out)
    study = read_study(directories)
    summary = summarize(study)
    cost = costs(study)
    out.mkdir(parents=True, exist_ok=True)
    write_again(summary["again"], out)
    _write(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    folder = out / "tables"
    folder.mkdir(exist_ok=True)
    for name, table in (
        ("ranking", tables.ranking(summary)),
        ("metrics", tables.metrics(summary)),
        ("cost", tables.cost(summary, cost)),
    ):
        _write(folder / f"{name}.md", table.markdown())
        _write(folder / f"{name}.csv", table.csv())
        _write(folder / f"{name}.tex", table.latex())
    # Matplotlib and the template engine are slow to import, and whoever only wants numbers does not need them.
    from mtl.report.figures import draw
    from mtl.report.page import page

    _write(out / "report.html", page(summary, study, cost, draw(summary, study, cost, out / "figures")))
    return summary


def _write(path: Path, text: str) -> None:
    """All or nothing: a full disk leaves the former file."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
