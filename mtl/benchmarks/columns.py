"""A text file with a table, column by column: which hold numbers, which words, and which tell nothing."""

from __future__ import annotations

import csv
import math
import re
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
        words: a value a row; None where it is missing. In a column of numbers, equal ones are written alike.
        values: the same as numbers, NaN where missing; None if some value is no finite number.
        odd: the different values that are no finite numbers.
    """

    name: str
    words: tuple[str | None, ...]
    values: tuple[float, ...] | None
    odd: tuple[str, ...]

    @property
    def distinct(self) -> set[str]:
        """The values that occur."""
        return {word for word in self.words if word is not None}

    @property
    def missing(self) -> int:
        """How many values are missing."""
        return sum(word is None for word in self.words)

    @property
    def stray(self) -> str:
        """What keeps most values of a column from being numbers; empty where nothing does."""
        if not 0 < len(self.odd) < len(self.distinct) / 2:
            return ""
        others = f" and {len(self.odd) - 1:,} other" + "s" * (len(self.odd) > 2) if len(self.odd) > 1 else ""
        return f"all but {self.odd[0]!r}{others} are numbers"

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
            stray = f"; {self.stray}" if self.stray else ""
            return f"{len(self.distinct):,} different words in {len(there):,} rows{stray}"
        return ""


def read_columns(path: Path) -> list[TableColumn]:
    """The columns of a text file, whose first line has their names; fields are parted by commas, semicolons or tabs.

    Where semicolons part them, a comma in a number is its decimal mark.

    Raises:
        ValueError: it cannot be read as a table; one line that names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            mark = max(",;\t", key=re.sub(r'"[^"]*"', "", first).count)
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
    return [_column(name, [row[k].strip() for row in rows[1:]], comma=mark == ";") for k, name in enumerate(names)]


def _column(name: str, raw: Sequence[str], comma: bool) -> TableColumn:
    words = [None if word.lower() in MISSING else word for word in raw]
    read = {word: finite_number(word.replace(",", ".") if comma else word) for word in words if word is not None}
    if odd := tuple(word for word, number in read.items() if number is None):
        return TableColumn(name, tuple(words), None, odd)
    first: dict[float | None, str] = {}  # of `1` and `1.0`, the one that came first: they are one class, one input
    for word, number in read.items():
        first.setdefault(number, word)
    values = tuple(math.nan if word is None else read[word] or 0.0 for word in words)
    return TableColumn(name, tuple(None if word is None else first[read[word]] for word in words), values, ())


def finite_number(word: str) -> float | None:
    """The number that a word is; None for any other word, and for infinity."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in word else None  # 1_2 is a number to Python alone
