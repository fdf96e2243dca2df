"""Regularization of a batch: noise on the inputs and mixup, a pure function of seed and step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mtl.benchmarks.benchmark import Split
from mtl.train.batches import derived_seed

_STREAM = 3  # 0 to 2 are the orders of batches


@dataclass(frozen=True)
class Augmented:
    """A batch whose loss is `share` x the loss on its own targets + (1 - `share`) x the loss on those of `partner`."""

    batch: Split
    partner: Split | None = None
    share: float = 1.0


def augment(batch: Split, noise: float, mixup: float, seed: int, step: int) -> Augmented:
    """The batch of one training step.

    Args:
        batch: as drawn; inputs must be floating point for either.
        noise: standard deviation of Gaussian noise added to the inputs.
        mixup: a of lambda ~ Beta(a, a), the share of each example against a partner (Zhang et al., ICLR 2018).
        seed: of the run.
        step: counted from 0.
    """
    if not (noise or mixup) or not batch.inputs.is_floating_point():
        return Augmented(batch)
    generator = torch.Generator().manual_seed(derived_seed(seed, _STREAM, step))
    inputs, partner, share = batch.inputs, None, 1.0
    if mixup:
        concentration = torch.tensor([mixup, mixup], dtype=torch.float64)
        share = float(torch._sample_dirichlet(concentration, generator)[0])
        partner = batch.take(torch.randperm(len(batch), generator=generator).to(inputs.device))
        inputs = share * inputs + (1 - share) * partner.inputs
    if noise:
        drawn = torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)
        inputs = inputs + noise * drawn.to(inputs.device)
    return Augmented(Split(inputs, batch.targets), partner, share)
