"""Splits of tables of examples that come in no order of their own."""

from __future__ import annotations

import torch
from torch import Tensor


def shuffled_parts(examples: int, *shares: float, seed: int = 0) -> list[Tensor]:
    """Indices of all examples in parts of these shares, drawn once and for all; the last part takes what is left.

    Args:
        examples: their number.
        shares: of all parts but the last; each and their sum below 1.
        seed: of the order.
    """
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(seed))
    sizes = [int(share * examples) for share in shares]
    return list(order.split([*sizes, examples - sum(sizes)]))


def standardised(table: Tensor, fitted_on: Tensor) -> Tensor:
    """The columns of a table with mean 0 and standard deviation 1 on some of its rows; missing numbers stay NaN.

    A column that is constant there becomes 0 there.
    """
    mean, scale = centre_and_scale(table[fitted_on])
    return (table - mean) / scale


def centre_and_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the columns, but for NaN; of a column that is constant, 1 in place of 0."""
    mean = rows.nanmean(0)
    deviation = (rows - mean).square().nanmean(0).sqrt()
    return mean, torch.where(deviation > 0, deviation, 1.0)
