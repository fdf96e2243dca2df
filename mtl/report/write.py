"""Writes everything that a report consists of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl.files.whole import write_whole
from mtl.report import tables
from mtl.report.again import write_again
from mtl.report.cost import costs
from mtl.report.files import write_summary, write_tables
from mtl.report.learned import learned_losses, options_of
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
    learned = learned_losses(summary, study)
    summary["learned"] = dict(options_of(learned))
    write_again(summary["again"], out)
    write_summary(out, summary)
    written = {
        "ranking": tables.ranking(summary),
        "metrics": tables.metrics(summary),
        "cost": tables.cost(summary, cost),
    }
    write_tables(out, written)
    # Matplotlib and the template engine are slow to import, and whoever only wants numbers does not need them.
    from mtl.report.figures import draw
    from mtl.report.page import page

    figures = draw(summary, study, cost, out / "figures", learned)
    write_whole(out / "report.html", page(summary, study, cost, figures, options_of(learned)))
    return summary
