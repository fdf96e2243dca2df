"""The report of a comparison: summary.json, tables, figures and one self-contained page."""

from __future__ import annotations

from mtl.report import tables
from mtl.report.write import write_report

__all__ = ["tables", "write_report"]
