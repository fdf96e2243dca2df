"""A table that knows its numbers and its text, written as Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

# Marks of a bold cell while tabulate escapes the rest: private-use characters that no data holds.
_BOLD, _END = "\ue000", "\ue001"
_LATEX = str.maketrans(
    {
        _BOLD: r"\textbf{",
        _END: "}",
        "Δ": r"$\Delta$",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "×": r"$\times$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "…": r"\ldots{}",
        "\u202f": r"\,",
        "\u00a0": "~",
    }
)
_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*", "`": r"\`", _BOLD: "**", _END: "**"})


@dataclass(frozen=True)
class Cell:
    """What a reader sees, and what a program reads (one value for each of the column's fields)."""

    text: str
    values: tuple[Any, ...] = ()

    @property
    def value(self) -> Any:
        """The value that the column is sorted and judged by."""
        return self.values[0] if self.values else None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: its head.
        fields: names of its values in the CSV file.
        higher_is_better: None when no entry is best.
        group: a head above neighbouring columns.
        numeric: aligned right.
    """

    title: str
    fields: tuple[str, ...]
    higher_is_better: bool | None = None
    group: str = ""
    numeric: bool = True

    @property
    def heading(self) -> str:
        """Title with the group and an arrow to the better side."""
        return f"{self.group} {self.title_with_arrow}".strip()

    @property
    def title_with_arrow(self) -> str:
        """Title with an arrow to the better side."""
        arrow = {True: "\u00a0↑", False: "\u00a0↓", None: ""}[self.higher_is_better]
        return self.title + arrow


@dataclass(frozen=True)
class ReportTable:
    """Rows of cells.

    Attributes:
        apart: the first so many rows are baselines, not competitors.
        excluded: rows that cannot be best, because runs of theirs diverged or failed.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    apart: int = 0
    excluded: frozenset[int] = frozenset()

    def best(self, column: int) -> set[int]:
        """Rows that are best in a column; entries that read the same are equally good, and most cannot be best."""
        better = self.columns[column].higher_is_better
        candidates = {
            row: cells[column].value
            for row, cells in enumerate(self.rows)
            if row >= self.apart and cells[column].value is not None and row not in self.excluded
        }
        if better is None or len(candidates) < 2:
            return set()
        top = (max if better else min)(candidates.values())
        shown = {row: self.rows[row][column].text.split(" ±")[0] for row in candidates}
        winner = next(shown[row] for row in candidates if candidates[row] == top)
        found = {row for row in candidates if shown[row] == winner}
        return found if 2 * len(found) <= len(candidates) else set()

    def markdown(self) -> str:
        """GitHub's Markdown."""
        return self._tabulated("pipe", _MARKDOWN)

    def latex(self) -> str:
        """A tabular for LaTeX with booktabs."""
        return self._tabulated("latex_booktabs", _LATEX)

    def csv(self) -> str:
        """Every number in full, a field of its own for mean, bounds and count."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([name for column in self.columns for name in column.fields])
        for row in self.rows:
            writer.writerow(["" if value is None else value for cell in row for value in cell.values])
        return text.getvalue()

    def _tabulated(self, style: str, characters: dict[int, str]) -> str:
        best = [self.best(column) for column in range(len(self.columns))]
        latex = style.startswith("latex")
        rows = [
            [
                _marked(cell.text if latex else cell.text.translate(characters), row in best[column], latex)
                for column, cell in enumerate(cells)
            ]
            for row, cells in enumerate(self.rows)
        ]
        heads = [column.heading if latex else column.heading.translate(characters) for column in self.columns]
        align = ["right" if column.numeric else "left" for column in self.columns]
        text = tabulate(rows, heads, tablefmt=style, colalign=align, disable_numparse=True)
        return (text.translate(characters) if latex else text) + "\n"


def _marked(text: str, best: bool, latex: bool) -> str:
    if not best:
        return text
    return f"{_BOLD}{text}{_END}" if latex else f"**{text}**"
