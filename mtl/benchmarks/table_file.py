"""A table in a text file as a benchmark: some columns are asked for, the others are inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.benchmarks.answers import KINDS, answer, kind_of_column
from mtl.benchmarks.benchmark import Benchmark, Split, Splits
from mtl.benchmarks.columns import ENDINGS, TableColumn, TableText, days, read_columns, read_table
from mtl.benchmarks.stratified import stratified_parts
from mtl.benchmarks.tables import encoding
from mtl.files.table_name import parted_table
from mtl.suggestions import nearest

_SHARES = (0.7, 0.15)  # of training and validation; the rest is for the test
_FEWEST_ROWS = 40
_FEWEST = 5  # training rows of a word with a code of its own
_SPLITS = ("train", "validation", "test")
_SPLIT = "split"  # a column that says which split a row belongs to
_NAMES: Mapping[str, int] = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "test": 2}
_EXAMPLES = 100_000  # of all epochs together that training sees at least, so that small tables are learned


def named_table(path: str, targets: Sequence[str]) -> str:
    """The name that `parted_table` parts again.

    Raises:
        ValueError: `path` is no table, a target is given already, or its name has a comma, a bracket or an equals sign.
    """
    found = parted_table(path)
    if found is None or found[1]:
        raise ValueError(f"--target {' '.join(targets)}: {path!r} is no table; {' or '.join(ENDINGS)} is wanted")
    for target in targets:
        if set(target) & set(",[]="):
            raise ValueError(
                f"--target {target!r}: columns are parted by spaces, and none that is predicted may have a comma, a "
                "bracket or an equals sign in its name"
            )
    return f"{path}:{','.join(targets)}"


class TableFile(Benchmark):
    """Columns of a table as tasks, told from the others.

    Rows are split 70/15/15 at random, once and for all; rows with equal inputs go to the same split, so that the test
    holds none that was trained on. The classes of a single target have the same shares in each split. A column `split`
    of the words train, validation and test decides instead. Numbers are standardised by the training rows; where some
    are missing, a column says so. Dates are numbers of days. Columns that are the same everywhere and columns of words
    that mostly differ are left out.

    Args:
        path: of the file; its first line names the columns.
        targets: `COLUMN` or `COLUMN:KIND`, KIND one of regression, count, binary and classes.

    Attributes:
        about: what the columns were taken for, a line each.

    Raises:
        ValueError: the file, a target or a kind is not what it should be; one line.
    """

    def __init__(self, path: str, targets: Sequence[str]) -> None:
        self._path = Path(path)
        columns = {column.name: column for column in read_columns(read_table(self._path))}
        kinds = _kinds(path, targets, columns)
        self._columns, left_out = _inputs(columns, kinds)
        if not self._columns:
            why = "".join(f"; left out: {name}, {reason}" for name, reason in left_out.items())
            raise ValueError(f"table {path!r} has no column left to predict {', '.join(kinds)} from{why}")
        strata = _strata(columns, kinds)
        self._parts = _parts(path, columns, self._columns, strata)
        train = self._parts[0].tolist()
        words = {column.name: [word or "" for word in column.words] for column in self._columns if not column.values}
        numbers = _with_marks({each.name: list(each.values) for each in self._columns if each.values}, self._lacking())
        self._encoding = encoding(words, numbers, self._parts[0], _FEWEST)
        self._inputs = self._encoding.inputs(words, numbers)
        self.trunk = f"table:codes={self._encoding.size}" if words else "mlp:width=128"
        self._answers = [answer(columns[name], kind, train) for name, kind in kinds.items()]
        self.name = self._path.stem  # type: ignore[misc]
        self.tasks = tuple(each.task for each in self._answers)
        self.recipe = _recipe(len(train))  # type: ignore[misc]
        self._labels = {each.task.name: each.labels for each in self._answers}
        self.about = [each.about for each in self._answers] + _said(self._columns, left_out)
        if _SPLIT not in columns:
            chance = len(kinds) > 1 and any(each.task.classes for each in self._answers)
            self.about.append(_how_split(kinds, classes=bool(strata), chance=chance))

    def _lacking(self) -> list[str]:
        """The columns of numbers of which some are missing."""
        return [column.name for column in self._columns if column.values and column.missing]

    def files(self) -> Sequence[Path]:
        return [self._path]

    def load(self) -> Splits:
        def split(part: Tensor) -> Split:
            taken = pytree.tree_map(lambda values: values[part], self._inputs)
            return Split(taken, {name: labels[part] for name, labels in self._labels.items()})

        return Splits(*(split(part) for part in self._parts))

    def inputs_of(self, table: TableText) -> Any:
        """The inputs of other rows, which need not have the columns to predict.

        Raises:
            ValueError: a column is not there, or has words where it had numbers or dates; one line.
        """
        words: dict[str, list[str]] = {}
        numbers: dict[str, list[float]] = {}
        for column in self._columns:
            if column.name not in table.names:
                raise ValueError(f"table {str(table.path)!r} has no column {column.name!r}, from which it is predicted")
            fields = table.column(column.name)
            if column.values:
                numbers[column.name] = _numbers(table, column, fields)
            else:
                words[column.name] = [word or "" for word in fields]
        return self._encoding.inputs(words, _with_marks(numbers, self._lacking()))

    def doubts(self, predictions: Mapping[str, Tensor]) -> list[str]:
        """What a user should know of predictions, a line each."""
        each = (one.doubt(predictions[one.task.name]) for one in self._answers if one.task.name in predictions)
        return [line for line in each if line]

    def said(self, predictions: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """Predictions as columns of a table: in the units and words of the columns that were predicted."""
        return {
            name: column
            for each in self._answers
            if each.task.name in predictions
            for name, column in each.said(predictions[each.task.name]).items()
        }


def _numbers(table: TableText, column: TableColumn, fields: Sequence[str | None]) -> list[float]:
    """The fields of a column that had numbers, or dates."""
    read = {word: days(word) if column.dated else table.number(word) for word in fields if word is not None}
    if odd := [word for word, number in read.items() if number is None]:
        kind = "date" if column.dated else "number"
        raise ValueError(
            f"table {str(table.path)!r}, column {column.name!r}: {odd[0]!r} is no {kind}, and there were {kind}s alone "
            "where the model was trained"
        )
    return [math.nan if word is None else read[word] or 0.0 for word in fields]


def _with_marks(numbers: Mapping[str, list[float]], lacking: Sequence[str]) -> dict[str, list[float]]:
    """Columns of numbers, and for some of them one that says where they are missing."""
    # no column is named so, as names are stripped
    marks = {f" {name} is missing": [float(math.isnan(value)) for value in numbers[name]] for name in lacking}
    return {**numbers, **marks}


def _kinds(path: str, targets: Sequence[str], columns: Mapping[str, TableColumn]) -> dict[str, str | None]:
    """Targets by name, with the kind that was given."""
    if not targets:
        raise ValueError(f"table {path!r}: say with --target which columns to predict; it has {', '.join(columns)}")
    kinds: dict[str, str | None] = {}
    for text in targets:
        name, colon, kind = text.rpartition(":")
        if text in columns or not colon:
            name, kind = text, ""
        if name not in columns:
            raise ValueError(f"target {name!r}: table {path!r} has no such column: {nearest(name, columns)}")
        if kind and kind not in KINDS:
            raise ValueError(f"target {text!r}: {kind!r} must be one of {', '.join(KINDS)}")
        if name in kinds:
            raise ValueError(f"target {name!r} is given twice")
        kinds[name] = kind or None
    return kinds


def _inputs(
    columns: Mapping[str, TableColumn], kinds: Mapping[str, str | None]
) -> tuple[list[TableColumn], dict[str, str]]:
    """The columns to predict from, and why others are left out."""
    others = [column for name, column in columns.items() if name not in kinds and name != _SPLIT]
    different = len({*zip(*(column.words for column in columns.values()), strict=True)})
    reasons = {column.name: column.useless(different) for column in others}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    return [column for column in others if column.name not in left_out], left_out


def _parts(
    path: str, columns: Mapping[str, TableColumn], inputs: Sequence[TableColumn], labels: Sequence[str | None]
) -> list[Tensor]:
    """Rows of the three splits, with the classes among `labels`, if there are any, in equal shares."""
    rows = len(inputs[0].words)
    if rows < _FEWEST_ROWS:
        raise ValueError(f"table {path!r} has {rows} rows; {_FEWEST_ROWS} are wanted, to train, select and test on")
    if _SPLIT in columns:
        return _given_parts(path, columns[_SPLIT])
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for row, values in enumerate(zip(*(column.words for column in inputs), strict=True)):
        groups.setdefault(values, []).append(row)
    parts = stratified_parts([*groups.values()], labels or [None] * rows, _SHARES)
    if not all(len(part) for part in parts):
        raise ValueError(
            f"table {path!r} cannot be split: its {rows} rows have {len(groups)} different inputs, and equal ones stay "
            f"together; a column split of the words {', '.join(_SPLITS)} decides instead"
        )
    return parts


def _strata(columns: Mapping[str, TableColumn], kinds: Mapping[str, str | None]) -> tuple[str | None, ...]:
    """The class of each row, by which splits are drawn: that of the only target, if it has any."""
    if len(kinds) > 1:
        return ()
    ((name, kind),) = kinds.items()
    return () if (kind or kind_of_column(columns[name])) in ("regression", "count") else columns[name].words


def _given_parts(path: str, column: TableColumn) -> list[Tensor]:
    numbers = []
    for row, word in enumerate(column.words, 2):
        number = _NAMES.get((word or "").lower())
        if number is None:
            raise ValueError(f"table {path!r}, row {row}: split {word!r} must be one of {', '.join(_NAMES)}")
        numbers.append(number)
    parts = [torch.tensor([row for row, number in enumerate(numbers) if number == part]) for part in range(3)]
    if empty := [name for name, part in zip(_SPLITS, parts, strict=True) if not len(part)]:
        raise ValueError(f"table {path!r}: its column split has no row for {', '.join(empty)}")
    return parts


def _recipe(rows: int) -> dict[str, Any]:
    """Settings for a table of that many training rows."""
    batch = 32 if rows < 2_000 else 128 if rows < 50_000 else 512
    return {"epochs": max(5, min(100, _EXAMPLES // rows)), "batch_size": batch, "lr": 1e-3}


def _said(inputs: Sequence[TableColumn], left_out: Mapping[str, str]) -> list[str]:
    kinds = {
        "numbers": [column.name for column in inputs if column.values and not column.dated],
        "dates, as numbers of days": [column.name for column in inputs if column.dated],
        "words": [column.name for column in inputs if not column.values],
    }
    said = [f"inputs that are {kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    return said + [f"left out: {name}, {reason}" for name, reason in left_out.items()]


def _how_split(kinds: Mapping[str, str | None], *, classes: bool, chance: bool) -> str:
    how = "at random, rows with equal inputs together"
    if classes:
        return f"split 70/15/15 {how}, each class of {next(iter(kinds))} in these shares"
    several = "; shares of classes are left to chance, as there are several targets" if chance else ""
    return f"split 70/15/15 {how}{several}"
