"""Averages over the processes of a data-parallel run."""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor


class Ranks:
    """The processes of a group.

    Args:
        group: theirs; `torch.distributed.group.WORLD` for all.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._size = dist.get_world_size(group)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace contiguous tensors by their means over the processes; each must call with the same shapes."""
        pending = [dist.all_reduce(tensor, group=self._group, async_op=True) for tensor in tensors]
        for work in pending:
            work.wait()
        for tensor in tensors:
            tensor /= self._size

    def sum_of_products(self, rows: Tensor) -> Tensor:
        """The Gramian (K, K) of gradients on features, of which each process has those of its own examples.

        Args:
            rows: (K, n) gradients of the losses of this process, which are R times their parts of the mean losses.
        """
        gramian = rows @ rows.T
        self.average([gramian])
        return gramian / self._size
