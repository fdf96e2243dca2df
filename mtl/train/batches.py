"""Batches as a pure function of seed and step, so that a resumed run sees the data of an uninterrupted one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split


class Batches:
    """Shuffled batches of a split; a last one that would be short is left out, unless it is the only one.

    Args:
        split: on the device where the batches are wanted.
        size: examples a batch.
        seed: of the shuffles.
        stream: tells independent orders under one seed apart (0 training, 1 alignment, 2 further training batches).
    """

    def __init__(self, split: Examples, size: int, seed: int, stream: int = 0) -> None:
        self.split, self.size = split, min(size, len(split))
        self.per_epoch = len(split) // self.size
        self._entropy = [seed, stream]
        self._epoch, self._order = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Split:
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.order(epoch)
        return self.split.take(self._order[position * self.size : (position + 1) * self.size])

    def order(self, epoch: int) -> Tensor:
        """The order of all examples in an epoch."""
        generator = torch.Generator().manual_seed(derived_seed(*self._entropy, epoch))
        return torch.randperm(len(self.split), generator=generator).to(self.split.device)


def derived_seed(*entropy: int) -> int:
    """An independent seed for each tuple of whole numbers (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1
