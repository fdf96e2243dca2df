"""Ending an iteration before its last round, where nobody can tell but by the clock."""

from __future__ import annotations

import torch
from torch import Tensor


def may_look(values: Tensor) -> bool:
    """Whether the host may look at values: not in a compiled graph, nor under `vmap` and other transformations, nor on
    a device that it would have to wait for."""
    if torch.compiler.is_compiling() or values.device.type != "cpu":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(values)


def settled(goal: Tensor) -> bool:
    """Whether `goal` is true everywhere; False where the host may not look.

    So the rounds that a caller leaves out must change nothing that counts.
    """
    return may_look(goal) and bool(goal.all())
