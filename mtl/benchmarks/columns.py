"""A text file with a table, column by column: which hold numbers or dates, which words, and which tell nothing."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

#: What stands for a missing value, in small letters.
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-"})
#: How files of tables end.
ENDINGS = (".csv", ".tsv")
_MOST_DISTINCT = 0.5  # share of rows from which words that differ are taken for names or texts
_FEW = 50  # words that may all differ
_NUMBERING = re.compile(r"index|id|row|row[ _-]?id|(unnamed: ?|column )\d+", re.IGNORECASE)  # a nameless one among them
_NEARLY_ALL = 0.9  # share of rows in which a column of such a name differs
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400  # seconds


@dataclass(frozen=True)
class TableText:
    """A table as it was written, without blanks around its fields.

    Attributes:
        path: of the file.
        names: of the columns, from the first line.
        rows: a field for each column; those that are missing are None.
        comma: whether a comma is the decimal mark of its numbers.
    """

    path: Path
    names: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    comma: bool

    def column(self, name: str) -> list[str | None]:
        """The fields of a column."""
        place = self.names.index(name)
        return [row[place] for row in self.rows]

    def number(self, word: str) -> float | None:
        """The number that a field is; None for what is no finite number."""
        return finite_number(word.replace(",", ".") if self.comma else word)


@dataclass(frozen=True)
class TableColumn:
    """A column and what its values are.

    Attributes:
        name: from the first line.
        words: a value a row; None where it is missing. In a column of numbers, equal ones are written alike.
        values: the same as numbers, NaN where missing; None if some value is neither a finite number nor, in a column
            of dates, a date.
        odd: the different values that are no finite numbers, in a column of words.
        dated: whether the values are dates, and the numbers days since 1970.
    """

    name: str
    words: tuple[str | None, ...]
    values: tuple[float, ...] | None
    odd: tuple[str, ...] = ()
    dated: bool = False

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

    def useless(self, different: int) -> str:
        """Why nothing can be learned from it; empty where something may be.

        Args:
            different: how many different rows the table has.
        """
        there = len(self.words) - self.missing
        if len(self.distinct) < 2:
            return "the same everywhere"
        if self.values is None and len(self.distinct) > max(_FEW, _MOST_DISTINCT * there):
            stray = f"; {self.stray}" if self.stray else ""
            return f"{len(self.distinct):,} different words in {there:,} rows{stray}"
        return self._numbering(different)

    def _numbering(self, different: int) -> str:
        """How it is seen that it numbers the rows; equal rows, of which a table may hold several, have one number."""
        count = len(self.distinct)
        if self.values is not None:
            if self.dated or not all(value.is_integer() for value in self.values):
                return ""
            if count == different > _FEW and count == max(self.values) - min(self.values) + 1:
                return "numbers of rows" + (", some of which are there twice" if different < len(self.words) else "")
        if _NUMBERING.fullmatch(self.name) and count >= _NEARLY_ALL * different:
            return f"named as numbers of rows are, and {count:,} different ones in {different:,} different rows"
        return ""


def read_table(path: Path) -> TableText:
    """A text file with names of columns in its first line; fields are parted by commas, semicolons or tabs.

    Where semicolons part them, a comma in a number is its decimal mark. A column without a name, such as the numbers of
    rows that pandas writes, is named by its place.

    Raises:
        ValueError: it cannot be read as a table; one line that names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            mark = max(",;\t", key=re.sub(r'"[^"]*"', "", first).count)
            rows = [row for row in csv.reader(file, delimiter=mark, strict=True) if any(map(str.strip, row))]
    except FileNotFoundError:
        raise ValueError(f"table {str(path)!r} does not exist") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"table {str(path)!r} cannot be read: byte {error.start} is not UTF-8; save it in this encoding"
        ) from error
    except (OSError, csv.Error) as error:
        raise ValueError(f"table {str(path)!r} cannot be read: {error}") from error
    if len(rows) < 2:
        raise ValueError(f"table {str(path)!r} has {len(rows)} lines; names of columns and rows below them are wanted")
    names = tuple(name.strip() or f"column {place}" for place, name in enumerate(rows[0], 1))
    if len(set(names)) < len(names):
        raise ValueError(f"table {str(path)!r}: every column needs a name of its own in the first line: {[*names]}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise ValueError(
                f"table {str(path)!r}, row {number}: {len(row)} fields, and there are {len(names)} columns"
            )
    fields = tuple(tuple(None if word.strip().lower() in MISSING else word.strip() for word in row) for row in rows[1:])
    return TableText(path, names, fields, mark == ";")


def read_columns(table: TableText) -> list[TableColumn]:
    """What the columns hold: numbers where all values are, dates where all are, and words otherwise."""
    return [_column(name, table.column(name), table.number) for name in table.names]


def _column(name: str, words: Sequence[str | None], number: Callable[[str], float | None]) -> TableColumn:
    read = {word: number(word) for word in words if word is not None}
    dated = False
    if odd := tuple(word for word, found in read.items() if found is None):
        read = {word: days(word) for word in read}
        if dated := None not in read.values():
            odd = ()
        else:
            return TableColumn(name, tuple(words), None, odd)
    first: dict[float | None, str] = {}  # of `1` and `1.0`, the one that came first: they are one class, one input
    for word, found in read.items():
        first.setdefault(found, word)
    values = tuple(math.nan if word is None else read[word] or 0.0 for word in words)
    alike = tuple(None if word is None else first[read[word]] for word in words)
    return TableColumn(name, alike, values, odd, dated)


def finite_number(word: str) -> float | None:
    """The number that a word is; None for other words, infinity, and whole numbers that no float is (long ids)."""
    try:
        number = float(word)
    except ValueError:
        return None
    if not math.isfinite(number) or "_" in word:  # 1_2 is a number to Python alone
        return None
    whole = word.lstrip("+-").isdecimal()
    return None if whole and int(word) != int(number) else number


def days(word: str) -> float | None:
    """Days from 1970 to a date of ISO 8601, with or without a time, `2024-02-29 12:30`; None for any other word."""
    try:
        date = datetime.fromisoformat(word)
    except ValueError:
        return None
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - _EPOCH).total_seconds() / _DAY
