"""Ending an iteration before its last round, where nobody can tell but by the clock."""

from __future__ import annotations

import torch
from torch import Tensor


def settled(goal: Tensor) -> bool:
    """Whether `goal` is true everywhere, as far as the host may ask.

    It may not, and the answer is False, in a compiled graph, under `vmap` and other transformations, and on a device
    that it would have to wait for. So the rounds that a caller leaves out must change nothing that counts.
    """
    if torch.compiler.is_compiling() or goal.device.type != "cpu":
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(goal):
        return False
    return bool(goal.all())
