"""Data-parallel training: losses and task gradients are averaged over the processes before anything is made of them.

The Gramian of averaged gradients is not the average of Gramians. Averaging the Jacobian first gives every process the
same signals, so the same weights and the same update.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor

from mtl.jacobian import Jacobian, Own


class Processes:
    """The processes that train one model together.

    Args:
        together: whether to average over all processes of `torch.distributed`; None does so if there are several.
    """

    def __init__(self, together: bool | None = None) -> None:
        running = dist.is_available() and dist.is_initialized()
        if together and not running:
            raise ValueError("distributed=True needs torch.distributed.init_process_group() before")
        self.number = dist.get_world_size() if running and together is not False else 1

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the processes."""
        if self.number == 1:
            return tensor
        total = tensor.detach().clone().contiguous()
        dist.all_reduce(total)
        return total / self.number

    def mean_jacobian(self, jacobian: Jacobian) -> Jacobian:
        """Task gradients averaged over the processes, which must reach the same parameters."""
        if self.number == 1:
            return jacobian
        pieces = [piece.averaged(self.mean) for piece in jacobian.pieces]
        return Jacobian(pieces, jacobian.shared, jacobian.num_tasks)

    def mean_own(self, own: Sequence[Own]) -> list[Own]:
        """The same for gradients on the tasks' own leaves."""
        return [[(leaf, self.mean(gradient)) for leaf, gradient in pairs] for pairs in own]
