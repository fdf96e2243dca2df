"""The random numbers of a step, which are signals too."""

from __future__ import annotations

import torch
from torch import Tensor


def draws(needs: frozenset[str], tasks: int, dimension: int, generator: torch.Generator | None) -> dict[str, Tensor]:
    """The random numbers of one run's step, on the CPU.

    Args:
        needs: the signals that the strategy reads.
        tasks: K.
        dimension: D.
        generator: draws them; with None they are zeros and nothing is drawn.

    Returns:
        `noise` (K, K) in float64 and `dither` (D,) in float32, drawn in that order, of those that are needed.
    """
    signals = {}
    if "noise" in needs:
        noise = torch.zeros(tasks, tasks, dtype=torch.float64)
        signals["noise"] = noise if generator is None else noise.normal_(generator=generator)
    if "dither" in needs:
        dither = torch.zeros(dimension, dtype=torch.float32)
        signals["dither"] = dither if generator is None else dither.uniform_(generator=generator)
    return signals


def sent(values: Tensor, like: Tensor) -> Tensor:
    """The values in the dtype and on the device of `like`, without waiting for it."""
    values = values.to(like.dtype)
    device = like.device
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
