"""Autocast around a step: off in what is ours, and as the caller had it in forward passes that are theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Autocast:
    """The autocast that is in force where this is made.

    A solver run in bfloat16 has three digits left, so none of our own arithmetic may come under it. Forward passes that
    the caller gave as closures are another matter: those have to run as the caller's own did.

    Args:
        device: the parameters'; autocast is looked for there and on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        kinds = ("cpu",) if device.type in ("cpu", "meta") else ("cpu", device.type)
        self._on = [(kind, torch.get_autocast_dtype(kind)) for kind in kinds if torch.is_autocast_enabled(kind)]

    def off(self) -> contextlib.AbstractContextManager[object]:
        """Inside the block nothing is cast."""
        if not self._on:
            return contextlib.nullcontext()
        stack = contextlib.ExitStack()
        for kind, _ in self._on:
            stack.enter_context(torch.autocast(kind, enabled=False))
        return stack

    def around(self, forward: Callable[_P, _R]) -> Callable[_P, _R]:
        """The same forward pass, run under this autocast wherever it is called."""
        if not self._on:
            return forward

        def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with contextlib.ExitStack() as stack:
                for kind, dtype in self._on:
                    # Weights that were cast earlier may have moved since, by an optimizer's step or a lookahead.
                    stack.enter_context(torch.autocast(kind, dtype, cache_enabled=False))
                return forward(*args, **kwargs)

        return run
