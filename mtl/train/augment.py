"""Regularization of a batch: noise on the inputs, mixup and cutmix, a pure function of seed and step.

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
from mtl.train.cutmix import with_boxes

_STREAM = 3  # 0 to 2 are the orders of batches


@dataclass(frozen=True)
class Augmented:
    """A batch whose loss is `share` x the loss on its own targets + (1 - `share`) x the loss on those of `partner`.

    `share` is by task where it differs, as that of cutmix does.
    """

    batch: Split | OwnExamples
    partner: Split | OwnExamples | None = None
    share: float | Mapping[str, float] = 1.0

    def share_of(self, task: str) -> float:
        """The share of a task."""
        return self.share[task] if isinstance(self.share, Mapping) else self.share


def augment(
    batch: Split | OwnExamples, noise: float, mixup: float, seed: int, step: int, cutmix: float = 0.0
) -> Augmented:
    """The batch of one training step.

    Args:
        batch: as drawn; inputs without a floating-point tensor stay as they are. Of tasks that have their own examples
            each is augmented by itself, as it would be without the others.
        noise: standard deviation of Gaussian noise added to the inputs.
        mixup: a of lambda ~ Beta(a, a), the share of each example against a partner (Zhang et al., ICLR 2018).
        seed: of the run.
        step: counted from 0.
        cutmix: a of lambda ~ Beta(a, a), the share of each picture against a box of a partner (Yun et al., ICCV 2019).
            Beside mixup each step takes one of the two, by chance.
    """
    if not (noise or mixup or cutmix):
        return Augmented(batch)
    if isinstance(batch, Split):
        return _augmented(batch, noise, mixup, cutmix, (seed, _STREAM, step))
    made = {
        task: _augmented(part, noise, mixup, cutmix, (seed, _STREAM, step, *stream_of(task)))
        for task, part in batch.splits().items()
    }
    partners = {task: each.partner for task, each in made.items() if isinstance(each.partner, Split)}
    return Augmented(
        OwnExamples({task: each.batch for task, each in made.items()}),
        OwnExamples({task: partners.get(task, each.batch) for task, each in made.items()}) if partners else None,
        {task: each.share_of(task) for task, each in made.items()},
    )


def _augmented(batch: Split, noise: float, mixup: float, cutmix: float, entropy: tuple[int, ...]) -> Augmented:
    if floating_dtype(batch.inputs) is None:
        return Augmented(batch)
    generator = torch.Generator().manual_seed(derived_seed(*entropy))
    made = Augmented(batch)
    if mixup and cutmix and float(torch.rand((), generator=generator)) < 0.5:
        mixup = 0.0
    if mixup or cutmix:
        made = _with_partners(batch, mixup, cutmix, generator)
    inputs, targets = made.batch.inputs, made.batch.targets
    if noise:
        inputs = mapped(partial(_noisy, noise=noise, generator=generator), inputs)
    return Augmented(Split(inputs, targets), made.partner, made.share)


def _with_partners(batch: Split, mixup: float, cutmix: float, generator: torch.Generator) -> Augmented:
    """By mixup or, where that is 0, by cutmix."""
    concentration = torch.tensor([mixup or cutmix] * 2, dtype=torch.float64)
    share = float(torch._sample_dirichlet(concentration, generator)[0])
    partner = batch.take(torch.randperm(len(batch), generator=generator).to(batch.device))
    if mixup:
        inputs = mapped_together(partial(_mixed, share=share), batch.inputs, partner.inputs)
        return Augmented(Split(inputs, batch.targets), partner, share)
    mixed, shares = with_boxes(batch, partner, share, generator)
    # Labels that were cut are an example's own: their loss is not mixed, nor reckoned on those of the partner alone.
    others = {name: mixed.targets[name] if shares[name] == 1 else label for name, label in partner.targets.items()}
    return Augmented(mixed, Split(partner.inputs, others), shares)


def _mixed(own: Tensor, others: Tensor, share: float) -> Tensor:
    return share * own + (1 - share) * others if own.is_floating_point() else own


def _noisy(values: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    if not values.is_floating_point():
        return values
    drawn = torch.randn(values.shape, generator=generator, dtype=values.dtype)
    return values + noise * drawn.to(values.device)
