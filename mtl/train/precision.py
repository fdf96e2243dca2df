"""In which precision training goes forward; parameters, weighing, optimizer and evaluations stay in full precision."""

from __future__ import annotations

import contextlib

import torch

from mtl.train.settings import Settings


def lower(settings: Settings, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside the block a forward pass is made as `settings.amp` says, by torch's autocast.

    Weights that were cast are not kept: a lookahead or a second reading would meet those of another time.
    """
    if settings.amp == "off":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
