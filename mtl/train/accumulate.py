"""Gradient accumulation: a batch goes through the model in micro-batches, and one optimizer step follows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from mtl.benchmarks.benchmark import Split
from mtl.benchmarks.own import OwnExamples
from mtl.train.augment import Augmented


def cut(drawn: Augmented, count: int) -> list[Augmented]:
    """A batch in `count` micro-batches, whose sizes differ by one at most; the batch itself where there is to be one.

    Args:
        drawn: of at least `count` examples; micro-batches are views of it.
        count: at least 1.
    """
    if count == 1:
        return [drawn]
    batches = _parts(drawn.batch, count)
    partners = [None] * count if drawn.partner is None else _parts(drawn.partner, count)
    return [Augmented(batch, partner, drawn.share) for batch, partner in zip(batches, partners, strict=True)]


def _parts(batch: Split | OwnExamples, count: int) -> Sequence[Split | OwnExamples]:
    if isinstance(batch, OwnExamples):
        each = {task: _parts(part, count) for task, part in batch.splits().items()}
        return [OwnExamples({task: cut[number] for task, cut in each.items()}) for number in range(count)]
    return [batch.take(part) for part in parts(len(batch), count)]


def parts(length: int, count: int) -> list[slice]:
    """Consecutive parts of `length` examples, whose sizes differ by one at most."""
    ends = [length * number // count for number in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


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
