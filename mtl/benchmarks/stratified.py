"""Random splits of rows, some of which stay together, with each class in its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

_VALIDATION, _TEST = 1, 2  # after the training split
_FEWEST = 3  # groups that a class needs to be in every split


def stratified_parts(
    groups: Sequence[Sequence[int]], labels: Sequence[Hashable], shares: tuple[float, float], seed: int = 0
) -> list[Tensor]:
    """Rows of three splits, in an order drawn once and for all.

    Each class is cut by itself, at the same shares. One with three groups or more is in every split; rarer ones are cut
    together.

    Args:
        groups: rows that stay in one split; each row is in one of them.
        labels: the class of each row. A group counts for the rarest of its own.
        shares: of rows for training and validation; the rest is for the test.
        seed: of the order.
    """
    counts = Counter(labels)
    strata: dict[Hashable, list[int]] = {}
    for number in torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist():
        rarest = min((labels[row] for row in groups[number]), key=lambda label: counts[label])
        strata.setdefault(rarest, []).append(number)
    rare = [number for stratum in strata.values() if len(stratum) < _FEWEST for number in stratum]
    parts: list[list[int]] = [[], [], []]
    for stratum in [*(stratum for stratum in strata.values() if len(stratum) >= _FEWEST), rare]:
        sizes = [len(groups[number]) for number in stratum]
        for number, part in zip(stratum, _cut(sizes, shares), strict=True):
            parts[part] += groups[number]
    mixed = torch.Generator().manual_seed(seed)
    return [torch.tensor(part, dtype=torch.long)[torch.randperm(len(part), generator=mixed)] for part in parts]


def _cut(sizes: Sequence[int], shares: tuple[float, float]) -> list[int]:
    """The split of each group of a class: where its middle lies, when all stand in a row."""
    total = sum(sizes)
    middles = [end - size / 2 for size, end in zip(sizes, accumulate(sizes), strict=True)]
    found = [(middle >= shares[0] * total) + (middle >= sum(shares) * total) for middle in middles]
    if len(sizes) >= _FEWEST:
        for part in (_VALIDATION, _TEST):
            if part in found:
                continue
            # It takes the smallest that another one can spare.
            spare = [place for place, other in enumerate(found) if found.count(other) > 1]
            found[min(spare, key=lambda place: (sizes[place], -place))] = part
    return found
