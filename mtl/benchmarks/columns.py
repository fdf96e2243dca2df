"""A text file with a table, column by column: which hold numbers, which words, and which tell nothing."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: What stands for a missing value, in small letters.
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-"})
#: How files of tables end.
ENDINGS = (".csv", ".tsv")
_MOST_DISTINCT = 0.5  # share of rows from which words that differ are taken for names or texts
_FEW = 50  # words that may all differ


@dataclass(frozen=True)
class TableColumn:
    """A column as it was written.

    Attributes:
        name: from the first line.
        words: a value a row; None where it is missing.
        values: the same as numbers, NaN where missing; None if some value is no finite number.
    """

    name: str
    words: tuple[str | None, ...]
    values: tuple[float, ...] | None

    @property
    def distinct(self) -> set[str]:
        """The values that occur."""
        return {word for word in self.words if word is not None}

    @property
    def missing(self) -> int:
        """How many values are missing."""
        return sum(word is None for word in self.words)

    def useless(self) -> str:
        """Why nothing can be learned from it; empty where something may be."""
        there = [word for word in self.words if word is not None]
        if len(self.distinct) < 2:
            return "the same everywhere"
        if self.values is not None:
            whole = all(value.is_integer() for value in self.values)
            numbered = whole and len(set(self.values)) == len(self.values) == max(self.values) - min(self.values) + 1
            return "numbers of rows" if numbered and len(there) > _FEW else ""
        if len(self.distinct) > max(_FEW, _MOST_DISTINCT * len(there)):
            return f"{len(self.distinct):,} different words in {len(there):,} rows"
        return ""


def read_columns(path: Path) -> list[TableColumn]:
    """The columns of a text file, whose first line has their names; fields are parted by commas, semicolons or tabs.

    Raises:
        ValueError: it cannot be read as a table; one line that names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            mark = max(",;\t", key=first.count)
            rows = [row for row in csv.reader(file, delimiter=mark, strict=True) if row]
    except FileNotFoundError:
        raise ValueError(f"table {str(path)!r} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"table {str(path)!r} cannot be read: {error}") from error
    if len(rows) < 2:
        raise ValueError(f"table {str(path)!r} has {len(rows)} lines; names of columns and rows below them are wanted")
    names = [name.strip() for name in rows[0]]
    if len(set(names)) < len(names) or not all(names):
        raise ValueError(f"table {str(path)!r}: every column needs a name of its own in the first line: {names}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise ValueError(
                f"table {str(path)!r}, row {number}: {len(row)} fields, and there are {len(names)} columns"
            )
    return [_column(name, [row[k].strip() for row in rows[1:]]) for k, name in enumerate(names)]


def _column(name: str, raw: Sequence[str]) -> TableColumn:
    words = tuple(None if word.lower() in MISSING else word for word in raw)
    numbers = [math.nan if word is None else finite_number(word) for word in words]
    values = [number for number in numbers if number is not None]
    return TableColumn(name, words, tuple(values) if len(values) == len(numbers) else None)


def finite_number(word: str) -> float | None:
    """The number that a word is; None for any other word, and for infinity."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
