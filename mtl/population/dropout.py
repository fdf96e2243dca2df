"""Dropout of many members in one call: each member's masks come from its own generator, as in a run by itself.

Under `vmap` a dropout would draw for all members from one generator. Here a first pass of one member records the shape
and rate of every dropout; masks are drawn before each pass, member by member, and put in place of the calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CALLS = (F.dropout, torch.dropout)


class Recorded(TorchFunctionMode):
    """Notes the shape and rate of every dropout inside the block, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Size, float]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CALLS:
            value, rate, training = _arguments(*args, **kwargs)
            if training and rate > 0:
                self.calls.append((value.shape, float(rate)))
            return value
        return func(*args, **kwargs)


class _Replaced(TorchFunctionMode):
    def __init__(self, masks: Sequence[Tensor]) -> None:
        super().__init__()
        self._masks = iter(masks)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CALLS:
            value, rate, training = _arguments(*args, **kwargs)
            return value * next(self._masks) if training and rate > 0 else value
        return func(*args, **kwargs)


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def replaced(masks: Sequence[Tensor]) -> TorchFunctionMode | _Nothing:
    """Inside the block dropouts multiply with these masks instead of drawing."""
    return _Replaced(masks) if masks else _Nothing()


def draw(
    calls: Sequence[tuple[torch.Size, float]], generators: Sequence[torch.Generator | None], rates: Any, like: Tensor
) -> list[Tensor]:
    """A mask (N, ...) for each recorded call: zero where dropped, 1 / (1 - rate) elsewhere.

    Args:
        calls: shape and rate, of `Recorded`.
        generators: one a member, on the CPU; None for a member whose mask does not matter, which is all ones.
        rates: one a member, in place of those recorded, or None.
        like: dtype and device of the masks.
    """
    if not calls:
        return []
    masks = [torch.ones(len(generators), *shape, dtype=like.dtype) for shape, _ in calls]
    for index, generator in enumerate(generators):
        if generator is None:
            continue
        for mask, (_, rate) in zip(masks, calls, strict=True):
            keep = 1 - (rate if rates is None else rates[index])
            mask[index].bernoulli_(keep, generator=generator).div_(keep)
    return [mask.to(like.device) for mask in masks]


def _arguments(input: Tensor, p: float = 0.5, training: bool | None = None, train: bool | None = None, **_: Any) -> Any:
    """`F.dropout` is called with `training`, `torch.dropout` with `train`; both by position too."""
    return input, p, bool(training if train is None else train) if (training, train) != (None, None) else True
