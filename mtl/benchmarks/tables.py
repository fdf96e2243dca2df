"""Tables with columns of words and columns of numbers, as inputs of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.benchmarks.shuffled import centre_and_scale


@dataclass(frozen=True)
class Encoding:
    """How columns become numbers: found on some rows of a table, and the same for all others and for new ones.

    Attributes:
        codes: of each column of words, the code of every word that has one of its own.
        others: of each column of words, the code that all other words share.
        numbers: names of the columns of numbers.
        mean: (F,) what is subtracted from these.
        scale: (F,) what they are divided by.
    """

    codes: Mapping[str, Mapping[str, int]]
    others: Mapping[str, int]
    numbers: tuple[str, ...]
    mean: Tensor
    scale: Tensor

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.others) + sum(map(len, self.codes.values()))

    def of_words(self, words: Mapping[str, Sequence[str]]) -> Tensor:
        """Codes (N, C) of the columns of words."""
        return torch.stack(
            [
                torch.tensor([codes.get(word, self.others[name]) for word in words[name]])
                for name, codes in self.codes.items()
            ],
            1,
        )

    def of_numbers(self, numbers: Mapping[str, Sequence[float]]) -> Tensor:
        """Columns of numbers (N, F), standardised; NaN, which is missing, becomes 0, the mean."""
        table = torch.stack([torch.tensor(numbers[name], dtype=torch.float64) for name in self.numbers], 1)
        return ((table - self.mean) / self.scale).nan_to_num(0.0).float()

    def inputs(
        self, words: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[float]]
    ) -> dict[str, Tensor] | Tensor:
        """`codes` and `numbers` by name; of a table that has no words the numbers alone."""
        if not self.codes:
            return self.of_numbers(numbers)
        codes = {"codes": self.of_words(words)}
        return {**codes, "numbers": self.of_numbers(numbers)} if self.numbers else codes


def encoding(
    words: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[float]], fitted_on: Tensor, fewest: int = 1
) -> Encoding:
    """Find the encoding of a table on some of its rows.

    Each word of each column has a code of its own, so that one table of embeddings serves all columns. Words that the
    rows `fitted_on` have less than `fewest` times share one code a column, which is there in any case.

    Args:
        words: columns of words, of equal length.
        numbers: columns of numbers; NaN is missing.
        fitted_on: rows of the training split.
        fewest: rows that a word must be in for a code of its own.
    """
    codes: dict[str, dict[str, int]] = {}
    others: dict[str, int] = {}
    size, rows = 0, fitted_on.tolist()
    for name, column in words.items():
        counts = Counter(column[row] for row in rows)
        frequent = sorted(word for word, count in counts.items() if count >= fewest)
        codes[name] = {word: size + 1 + place for place, word in enumerate(frequent)}
        others[name] = size
        size += 1 + len(frequent)
    columns = [torch.tensor(column, dtype=torch.float64)[fitted_on] for column in numbers.values()]
    rows_of_numbers = torch.stack(columns, 1) if columns else torch.empty(len(fitted_on), 0, dtype=torch.float64)
    return Encoding(codes, others, tuple(numbers), *centre_and_scale(rows_of_numbers))


@dataclass(frozen=True)
class Encoded:
    """A table as `codes` (N, C) and `numbers` (N, F).

    Attributes:
        inputs: both, by name.
        size: how many codes there are.
    """

    inputs: dict[str, Tensor]
    size: int

    def at(self, index: Tensor) -> dict[str, Tensor]:
        """The inputs of some rows."""
        return {name: values[index] for name, values in self.inputs.items()}


def encoded(
    words: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[float]], fitted_on: Tensor, fewest: int = 1
) -> Encoded:
    """A table with columns of words, by the encoding that is found on some of its rows; see `encoding`."""
    found = encoding(words, numbers, fitted_on, fewest)
    inputs = found.inputs(words, numbers)
    assert isinstance(inputs, dict)  # there are words
    return Encoded(inputs, found.size)
