"""Regularization of a batch: noise on the inputs and mixup, a pure function of seed and step.

Of inputs in a nesting, the floating-point tensors are changed; whole numbers, as of words or a mask, stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Split
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.tree import floating_dtype, mapped, mapped_together
from mtl.train.batches import derived_seed, stream_of

_STREAM = 3  # 0 to 2 are the orders of batches


@dataclass(frozen=True)
class Augmented:
    """A batch whose loss is `share` x the loss on its own targets + (1 - `share`) x the loss on those of `partner`.

    Where tasks have their own examples, `share` is by task.
    """

    batch: Split | OwnExamples
    partner: Split | OwnExamples | None = None
    share: float | Mapping[str, float] = 1.0

    def share_of(self, task: str) -> float:
        """The share of a task."""
        return self.share[task] if isinstance(self.share, Mapping) else self.share


def augment(batch: Split | OwnExamples, noise: float, mixup: float, seed: int, step: int) -> Augmented:
    """The batch of one training step.

    Args:
        batch: as drawn; inputs without a floating-point tensor stay as they are. Of tasks that have their own examples
            each is augmented by itself, as it would be without the others.
        noise: standard deviation of Gaussian noise added to the inputs.
        mixup: a of lambda ~ Beta(a, a), the share of each example against a partner (Zhang et al., ICLR 2018).
        seed: of the run.
        step: counted from 0.
    """
    if not (noise or mixup):
        return Augmented(batch)
    if isinstance(batch, Split):
        return _augmented(batch, noise, mixup, (seed, _STREAM, step))
    made = {
        task: _augmented(part, noise, mixup, (seed, _STREAM, step, *stream_of(task)))
        for task, part in batch.splits().items()
    }
    partners = {task: each.partner for task, each in made.items() if isinstance(each.partner, Split)}
    return Augmented(
        OwnExamples({task: each.batch for task, each in made.items()}),
        OwnExamples({task: partners.get(task, each.batch) for task, each in made.items()}) if partners else None,
        {task: each.share_of(task) for task, each in made.items()},
    )


def _augmented(batch: Split, noise: float, mixup: float, entropy: tuple[int, ...]) -> Augmented:
    if floating_dtype(batch.inputs) is None:
        return Augmented(batch)
    generator = torch.Generator().manual_seed(derived_seed(*entropy))
    inputs, partner, share = batch.inputs, None, 1.0
    if mixup:
        concentration = torch.tensor([mixup, mixup], dtype=torch.float64)
        share = float(torch._sample_dirichlet(concentration, generator)[0])
        partner = batch.take(torch.randperm(len(batch), generator=generator).to(batch.device))
        inputs = mapped_together(partial(_mixed, share=share), inputs, partner.inputs)
    if noise:
        inputs = mapped(partial(_noisy, noise=noise, generator=generator), inputs)
    return Augmented(Split(inputs, batch.targets), partner, share)


def _mixed(own: Tensor, others: Tensor, share: float) -> Tensor:
    return share * own + (1 - share) * others if own.is_floating_point() else own


def _noisy(values: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    if not values.is_floating_point():
        return values
    drawn = torch.randn(values.shape, generator=generator, dtype=values.dtype)
    return values + noise * drawn.to(values.device)
