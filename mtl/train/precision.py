"""In which precision training goes forward; parameters, weighing, optimizer and evaluations stay in full precision."""

from __future__ import annotations

import contextlib

import torch

from mtl.train.settings import Settings

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def lower(settings: Settings, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside the block a forward pass is made as `settings.amp` says, by torch's autocast.

    Weights that were cast are not kept: a lookahead or a second reading would meet those of another time.
    """
    if settings.amp == "off":
        return contextlib.nullcontext()
    return torch.autocast(device.type, _TYPES[settings.amp], cache_enabled=False)


def scaler_of(settings: Settings, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps the small gradients of float16 from becoming zero; None where no setting needs it."""
    return torch.amp.GradScaler(device.type) if settings.amp == "fp16" else None
