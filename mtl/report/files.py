"""The files of a report: each is whole, or the former one stays, so that a full disk breaks none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl.files.whole import write_whole
from mtl.report.table import ReportTable


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json, whose values are those of `json_values`."""
    write_whole(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tables(out: Path, tables: Mapping[str, ReportTable]) -> None:
    """Write tables by name into `tables/`, each as Markdown, CSV and LaTeX."""
    folder = out / "tables"
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        write_whole(folder / f"{name}.md", table.markdown())
        write_whole(folder / f"{name}.csv", table.csv())
        write_whole(folder / f"{name}.tex", table.latex())


def json_values(value: Any) -> Any:
    """Plain values for JSON: None for numbers that are not finite, lists for tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: json_values(item) for key, item in value.items()}
    return [json_values(item) for item in value] if isinstance(value, list | tuple) else value
