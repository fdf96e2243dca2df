"""Dropout of many members in one call: each member's masks come from its own generator, as in a run by itself.

Under `vmap` a dropout would draw for all members from one generator. Here a first pass of one member records the shape
and rate of every dropout; masks are drawn before each pass, member by member, and put in place of the calls. Dropout
within `F.scaled_dot_product_attention` counts as one. Other random functions that a model may call draw under `vmap`
for all members from the global generator: equal to single runs in distribution only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_dropout, _attention = F.dropout, F.scaled_dot_product_attention


class Rate(float):
    """A rate of dropout that says which it is, so that each member of a population can have another in its place.

    Attributes:
        kind: such as that of a task's head; a plain number is of the kind "".
        share: of the rate of that kind that this one is.
    """

    kind: str
    share: float

    def __new__(cls, value: float, kind: str = "", share: float = 1.0) -> Rate:
        made = super().__new__(cls, value)
        made.kind, made.share = kind, share
        return made


#: Rates by kind, in place of a model's own.
Rates = Mapping[str, float]


class _Intercepted(TorchFunctionMode):
    """Inside the block, dropouts are `self.drop(value, rate)`.

    A mode sees the calls of a model's own lines, but not those within `F.multi_head_attention_forward`, which look
    the functions up in `torch.nn.functional`: there they are replaced.
    """

    def drop(self, value: Tensor, rate: float) -> Tensor:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self._patch = patch.multiple(F, dropout=self._dropped, scaled_dot_product_attention=self._attended)
        self._patch.__enter__()
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self._patch.__exit__(*raised)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (_dropout, torch.dropout):
            return self._dropped(*args, **kwargs)
        if func is _attention:
            return self._attended(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropped(
        self,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,  # noqa: ARG002
        *,
        train: bool = True,
    ) -> Tensor:
        return self.drop(input, p) if training and train and p > 0 else input

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """As in the documentation of the function, where it drops; otherwise the function itself."""
        if dropout_p == 0 or enable_gqa:
            return _attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        return self.drop(scores.softmax(-1), dropout_p) @ value


class Call(NamedTuple):
    """One dropout of a pass: shape and strides of its mask, which decide what is drawn where, and its rate."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    rate: Rate

    def rate_in(self, rates: Rates | None) -> float:
        """Its rate where these hold."""
        return rates[self.rate.kind] * self.rate.share if rates and self.rate.kind in rates else float(self.rate)


class Recorded(_Intercepted):
    """Notes every dropout inside the block, in order, and drops nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def drop(self, value: Tensor, rate: float) -> Tensor:
        known = rate if isinstance(rate, Rate) else Rate(rate)
        self.calls.append(Call(tuple(value.shape), torch.empty_like(value).stride(), known))
        return value


class _Through(_Intercepted):
    def drop(self, value: Tensor, rate: float) -> Tensor:  # noqa: ARG002
        return value


def undropped() -> AbstractContextManager[Any]:
    """Inside the block dropouts let everything through and draw nothing."""
    return _Through()


class _Replaced(_Intercepted):
    def __init__(self, masks: Sequence[Tensor]) -> None:
        super().__init__()
        self._masks = iter(masks)

    def drop(self, value: Tensor, rate: float) -> Tensor:  # noqa: ARG002
        return value * next(self._masks)


def replaced(masks: Sequence[Tensor]) -> AbstractContextManager[Any]:
    """Inside the block dropouts multiply with these masks instead of drawing."""
    return _Replaced(masks) if masks else nullcontext()


def draw(
    calls: Sequence[Call],
    generators: Sequence[torch.Generator | None],
    rates: Sequence[Rates] | None,
    like: Tensor,
) -> list[Tensor]:
    """A mask (N, ...) for each recorded call: zero where dropped, 1 / (1 - rate) elsewhere.

    Args:
        calls: of `Recorded`.
        generators: one a member, on the CPU; None for a member whose mask does not matter, which is all ones.
        rates: one of each kind a member, in place of those recorded, or None.
        like: dtype and device of the masks.
    """
    masks = [torch.ones(len(generators), *call.shape, dtype=like.dtype) for call in calls]
    for index, generator in enumerate(generators):
        if generator is None:
            continue
        for mask, call in zip(masks, calls, strict=True):
            keep = 1 - call.rate_in(None if rates is None else rates[index])
            drawn = torch.empty_strided(call.shape, call.strides, dtype=like.dtype)
            mask[index] = drawn.bernoulli_(keep, generator=generator).div_(keep)
    return [mask.to(like.device) for mask in masks]
