"""Ending an iteration before its last round, where nobody can tell but by the clock."""

from __future__ import annotations

import torch
from torch import Tensor

#: Up to so many values are read sooner than an operation on them is started.
_FEW = 64


def may_look(values: Tensor) -> bool:
    """Whether the host may look at values: not in a compiled graph, nor under `vmap` and other transformations, nor on
    a device that it would have to wait for."""
    if torch.compiler.is_compiling() or values.device.type != "cpu":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(values)


def settled(goal: Tensor) -> bool:
    """Whether `goal` is true everywhere; False where the host may not look.

    So what a caller leaves out then must change nothing that counts.
    """
    if not may_look(goal):
        return False
    return all(goal.flatten().tolist()) if goal.numel() <= _FEW else bool(goal.all())
