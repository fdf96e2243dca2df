"""What `mtl auto` shows at its end: the finalists, the verdict, and how to train what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mtl.auto import words
from mtl.cli.console import console


def show_decision(summary: Mapping[str, Any]) -> None:
    """Print the table of the finalists, the verdict and the line of `mtl train`."""
    if summary["finalists"]:
        found = words.finalists_table(summary)
        table = Table(box=None, padding=(0, 2, 0, 0))
        shown = [place for place, column in enumerate(found.columns) if column.group != words.TEST]
        for place in shown:
            column = found.columns[place]
            table.add_column(column.title_with_arrow, justify="right" if column.numeric else "left")
        for row in found.rows:
            table.add_row(*(row[place].text for place in shown))
        console.print(table)
        for entry in summary["finalists"]:
            said = f"{entry['label']}: {words.described(entry['train'])}; test {words.tested(entry)}"
            console.print(said, highlight=False, markup=False)
    console.print(words.verdict(summary), highlight=False, markup=False)
    again = summary["train"]
    if again is not None:
        said = f"Train it: {again['line']}" if "line" in again else f"No line of mtl train says it: {again['fault']}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
