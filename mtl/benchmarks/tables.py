"""Tables with columns of words and columns of numbers, as inputs of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.benchmarks.shuffled import standardised


@dataclass(frozen=True)
class Encoded:
    """A table as `codes` (N, C) and `numbers` (N, F).

    Attributes:
        inputs: both, by name. Each word of each column has a code of its own, from 0 to `size` - 1, so that one table
            of embeddings serves all columns; numbers are standardised, missing ones 0.
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
    """A table of columns of equal length.

    Words that the rows `fitted_on` have less than `fewest` times share one code a column, which is there in any case.

    Args:
        words: columns of words.
        numbers: columns of numbers; NaN is missing.
        fitted_on: rows of the training split.
        fewest: rows that a word must be in for a code of its own.
    """
    codes, size, rows = [], 0, fitted_on.tolist()
    for column in words.values():
        counts = Counter(column[row] for row in rows)
        frequent = sorted(word for word, count in counts.items() if count >= fewest)
        known = {word: size + 1 + place for place, word in enumerate(frequent)}
        codes.append(torch.tensor([known.get(word, size) for word in column]))
        size += 1 + len(known)
    inputs = {"codes": torch.stack(codes, 1)}
    if numbers:
        inputs["numbers"] = standard_numbers(numbers, fitted_on)
    return Encoded(inputs, size)


def standard_numbers(numbers: Mapping[str, Sequence[float]], fitted_on: Tensor) -> Tensor:
    """Columns of numbers (N, F), standardised on the rows `fitted_on`; NaN, which is missing, becomes 0, the mean."""
    table = torch.stack([torch.tensor(column, dtype=torch.float64) for column in numbers.values()], 1)
    return standardised(table, fitted_on).nan_to_num(0.0).float()
