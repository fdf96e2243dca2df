"""What is asked of a table: columns as tasks, of a kind that is told from their values or given."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Task
from mtl.benchmarks.columns import TableColumn
from mtl.losses import make_loss
from mtl.losses.labels import IGNORE
from mtl.metrics import (
    accuracy,
    auc,
    average_precision,
    binary_accuracy,
    in_unit,
    macro_f1,
    mae,
    of_counts,
    poisson_deviance,
    r2,
)

KINDS = ("regression", "count", "binary", "classes")
_MOST_COUNT = 2**24  # beyond which single precision does not tell whole numbers apart
_MOST_CLASSES = 10  # different whole numbers that are taken for classes
_UNEVEN = 3.0  # largest over smallest class from which accuracy tells little
_YES = ("yes", "true", "1", "y", "t", "positive")


@dataclass(frozen=True)
class Answer:
    """A column as a task.

    Attributes:
        task: with a loss and metrics that suit the kind.
        labels: (N,), the missing ones NaN or -100.
        about: what it was taken for, for the user.
        mean, deviation: of a regression, by which labels were standardised.
        most: of a count, whose predictions are logarithms of what is to be expected, the largest training label.
    """

    task: Task
    labels: Tensor
    about: str
    mean: float = 0.0
    deviation: float = 1.0
    most: float | None = None

    def said(self, prediction: Tensor) -> dict[str, list[str]]:
        """Predictions (N, ...) as columns of a table, by their names.

        A regression gives a number in the column's own unit, a count the one that is to be expected. Yes or no and
        classes give the word, and for each of them the share that the outputs give it: a probability where the loss is
        a cross-entropy without weights.
        """
        name, flat = self.task.name, prediction.detach().double().reshape(len(prediction), -1)
        if not self.task.classes:
            numbers = flat[:, 0] * self.deviation + self.mean if self.most is None else flat[:, 0].exp()
            return {f"predicted {name}": [f"{value:.7g}" for value in numbers.tolist()]}
        shares = torch.cat([-flat, flat], 1).sigmoid() if self.task.outputs == 1 else flat.softmax(1)
        best = [self.task.classes[place] for place in shares.argmax(1).tolist()]
        listed = {f"{name} is {word}": [f"{share:.6f}" for share in shares[:, k].tolist()] for k, word in self._shown()}
        return {f"predicted {name}": best, **listed}

    def doubt(self, prediction: Tensor) -> str:
        """What is odd about predictions (N, ...): counts that no training row had; empty where nothing is."""
        if self.most is None or not (above := int((prediction > math.log(self.most)).sum())):
            return ""
        return (
            f"{self.task.name}: of {above:,} of {len(prediction):,} rows more is expected than any training row had, "
            f"{self.most:,.0f}; the model was trained on nothing like them"
        )

    def _shown(self) -> list[tuple[int, str]]:
        """The words whose shares are given: of yes or no that of yes tells both."""
        listed = [*enumerate(self.task.classes)]
        return listed[1:] if self.task.outputs == 1 else listed


def kind_of_column(column: TableColumn) -> str:
    """Binary with two different values, classes with words or up to ten whole numbers, regression otherwise."""
    count = len(column.distinct)
    if count == 2:
        return "binary"
    whole = column.values is None or all(value.is_integer() for value in column.values if value == value)
    return "classes" if column.values is None or (whole and count <= _MOST_CLASSES) else "regression"


def answer(column: TableColumn, kind: str | None, train: Sequence[int]) -> Answer:
    """The task that a column asks.

    Args:
        column: with the labels.
        kind: one of `KINDS`; None: told from the values.
        train: rows of the training split, to which labels of a regression are standardised.

    Raises:
        ValueError: the values are not of that kind; one line.
    """
    told, kind = kind is None, kind or kind_of_column(column)
    asked = {"regression": _regression, "count": _count, "binary": _binary, "classes": _classes}
    made = asked[kind](column, train)
    other = f"; --target {column.name}:{'regression' if kind == 'classes' else 'classes'} if that is wrong"
    if _countable(column):
        other += f", {column.name}:count if it counts something"
    wrong = other if told and column.values is not None and kind != "binary" else ""
    return dataclasses.replace(made, about=f"{column.name}: {made.about}{wrong}")


def _regression(column: TableColumn, train: Sequence[int]) -> Answer:
    if column.values is None:
        raise ValueError(f"target {column.name!r} cannot be a regression: {column.odd[0]!r} is no finite number")
    values = torch.tensor(column.values, dtype=torch.float64)
    there = values[list(train)]
    there = there[~there.isnan()]
    if len(there) < 2 or not bool(there.std(correction=0) > 0):
        raise ValueError(f"target {column.name!r} cannot be a regression: its training labels are all the same")
    mean, deviation = float(there.mean()), float(there.std(correction=0))
    if not math.isfinite(deviation):
        raise ValueError(
            f"target {column.name!r} cannot be a regression: its values, up to {max(there):.4g}, are too large"
        )
    metrics = (in_unit(mae, deviation, mean), r2)
    task = Task(column.name, make_loss("mse"), metrics)
    about = f"regression, mean {mean:.4g}, standard deviation {deviation:.4g}"
    return Answer(task, ((values - mean) / deviation).float(), about, mean=mean, deviation=deviation)


def _count(column: TableColumn, train: Sequence[int]) -> Answer:
    allowed = f"whole numbers from 0 to {_MOST_COUNT:,} are"
    cannot = f"target {column.name!r} cannot be a count:"
    if column.values is None or column.dated:
        word = column.odd[0] if column.odd else next(filter(None, column.words))
        what = "a date" if column.dated else "no finite number"
        raise ValueError(f"{cannot} row {column.words.index(word) + 2} has {word!r}, {what}; {allowed} wanted")
    for row, (text, value) in enumerate(zip(column.words, column.values, strict=True), 2):
        if odd := _uncountable(value):
            raise ValueError(f"{cannot} row {row} has {text!r}, {odd}; {allowed} allowed")
    counts = torch.tensor(column.values, dtype=torch.float64)
    there = counts[list(train)]
    there = there[~there.isnan()]
    if len(there) < 2 or not bool(there.max() > there.min()):
        raise ValueError(f"{cannot} its training labels are all the same")
    mean, variance = float(there.mean()), float(there.var(correction=0))
    task = Task(column.name, make_loss("poisson"), (poisson_deviance, of_counts(mae)), start=math.log(mean))
    zeros = float((there == 0).double().mean())
    about = (
        f"count, from {there.min():,.0f} to {there.max():,.0f}, mean {_plain(mean)}, {zeros:.0%} are 0; "
        f"the variance is {_plain(variance / mean)} times the mean, where a Poisson distribution has 1"
    )
    return Answer(task, counts.float(), about, most=float(there.max()))


def _plain(number: float) -> str:
    """Without an exponent where it is large."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _countable(column: TableColumn) -> bool:
    """Whether a column may be a count."""
    return column.values is not None and not column.dated and not any(map(_uncountable, column.values))


def _uncountable(value: float) -> str:
    """Why a number is no count; empty where it is one, or missing."""
    if value < 0:
        return "below 0"
    if value > _MOST_COUNT:
        return "too large"
    return "" if value != value or value.is_integer() else "no whole number"


def _binary(column: TableColumn, _train: Sequence[int]) -> Answer:
    counts = Counter(word for word in column.words if word is not None)
    if len(counts) != 2:
        raise ValueError(f"target {column.name!r} cannot be binary: it has {len(counts)} different values")
    named = [word for word in counts if word.lower() in _YES]
    yes = named[0] if len(named) == 1 else min(counts, key=lambda word: (counts[word], word))
    no = next(word for word in counts if word != yes)
    labels = torch.tensor([torch.nan if word is None else float(word == yes) for word in column.words])
    metrics = (auc, average_precision, binary_accuracy)
    task = Task(column.name, make_loss("binary-cross-entropy"), metrics, classes=(no, yes))
    about = f"binary, is it {yes!r} ({counts[yes] / counts.total():.1%}) or {no!r}"
    return Answer(task, labels, about)


def _classes(column: TableColumn, train: Sequence[int]) -> Answer:
    counts = Counter(word for word in column.words if word is not None)
    if len(counts) < 2:
        raise ValueError(f"target {column.name!r} cannot have classes: it has {len(counts)} different values")
    names = sorted(counts, key=float) if column.values is not None else sorted(counts)
    if unseen := set(counts) - {column.words[row] for row in train}:
        advice = "join rare classes or leave those rows out"
        if column.values is not None:
            count = f", or {column.name}:count if it counts something" if _countable(column) else ""
            advice += f"; or take {column.name}:regression{count}"
        if column.stray:
            advice = f"{column.stray}: leave it empty for a regression"
        elif column.odd and len(counts) > counts.total() / 2:
            advice = f"for a regression, values have to be numbers, and {column.odd[0]!r} is none"
        raise ValueError(
            f"target {column.name!r} cannot be learned: {len(unseen)} of its {len(counts)} classes, such as "
            f"{min(unseen)!r}, are in no training row; {advice}"
        )
    place = {name: k for k, name in enumerate(names)}
    labels = torch.tensor([IGNORE if word is None else place[word] for word in column.words])
    uneven = max(counts.values()) >= _UNEVEN * min(counts.values())
    metrics = (macro_f1, accuracy) if uneven else (accuracy, macro_f1)
    task = Task(column.name, make_loss("cross-entropy"), metrics, outputs=len(names), classes=tuple(names))
    common, rare = counts.most_common()[0], counts.most_common()[-1]
    about = f"{len(names)} classes, from {rare[0]!r} with {rare[1]:,} rows to {common[0]!r} with {common[1]:,}"
    if alike := _alike(names):
        about += f"; {alike[0]!r} and {alike[1]!r} differ in capitals alone, and are two"
    return Answer(task, labels, about)


def _alike(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names that differ in capitals alone, if there are any."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            return other, name
    return None
