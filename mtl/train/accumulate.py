"""Gradient accumulation: a batch goes through the model in micro-batches, and one optimizer step follows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from mtl.train.augment import Augmented


def cut(drawn: Augmented, count: int) -> list[Augmented]:
    """A batch in `count` micro-batches, whose sizes differ by one at most; the batch itself where there is to be one.

    Args:
        drawn: of at least `count` examples; micro-batches are views of it.
        count: at least 1.
    """
    if count == 1:
        return [drawn]
    ends = [len(drawn.batch) * number // count for number in range(count + 1)]
    parts = [slice(start, end) for start, end in itertools.pairwise(ends)]
    partner = drawn.partner
    return [
        Augmented(drawn.batch.take(part), None if partner is None else partner.take(part), drawn.share)
        for part in parts
    ]


def scale_gradients(parameters: Iterable[Tensor], factor: float) -> None:
    """Multiply what stands in `.grad`."""
    if factor == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def mean_losses(losses: Sequence[Mapping[str, Tensor]], sizes: Sequence[int]) -> dict[str, Tensor]:
    """The mean of each task's loss over the micro-batches that have one, each counted by its size."""
    if len(losses) == 1:
        return dict(losses[0])
    found = {}
    for name in {name: None for each in losses for name in each}:
        here = [(each[name], size) for each, size in zip(losses, sizes, strict=True) if name in each]
        weighted = sum((loss * size for loss, size in here[1:]), start=here[0][0] * here[0][1])
        found[name] = weighted / sum(size for _, size in here)
    return found
