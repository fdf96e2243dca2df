"""Whether somebody's loss is a function of predictions and labels alone, and not of what it keeps from call to call.

What a loss keeps would be lost, or shared by runs that are to be independent, and no checkpoint has it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_SO = "a loss is a function of predictions and labels"


def trainable(function: Any) -> str | None:
    """A complaint about a module with parameters that are not frozen, or None."""
    if isinstance(function, nn.Module) and any(each.requires_grad for each in function.parameters()):
        return "has parameters of its own, which nothing would train"
    return None


def impure(function: Any, call: Callable[[Any], Any]) -> str | None:
    """A complaint about a loss that changes when it computes, or None; torch's random numbers are no change.

    Args:
        function: the loss; a copy of it is tried.
        call: gives the value of a loss on some examples.
    """
    tried = copy.deepcopy(function)
    before = {name: _copied(value) for name, value in _kept(tried)}
    first = _seeded(lambda: call(tried))
    for name, value in _kept(tried):
        if name in before and not _same(before[name], value):
            kind = "buffer" if isinstance(value, Tensor) else "attribute"
            return f"changes its {kind} {name!r} when it computes; {_SO}"
    if not _same(first, _seeded(lambda: call(tried))):
        return (
            f"gives another number when it is called again: it counts its calls, keeps what it saw, or draws random "
            f"numbers that are not torch's; {_SO}"
        )
    return None


def drawn_as_made(make: Callable[[], Any]) -> str | None:
    """A complaint about a module that draws its buffers at random when it is made, or None."""
    first, second = (_seeded(lambda: dict(_kept(make())), seed) for seed in (0, 1))
    for name, value in first.items():
        if isinstance(value, Tensor) and name in second and not _same(value, second[name]):
            return (
                f"draws {name!r} at random when it is made, which is anew for each batch: draw it with a "
                "torch.Generator of a seed"
            )
    return None


def _kept(function: Any) -> Iterator[tuple[str, Any]]:
    """Buffers and parameters of a loss, and attributes that are numbers, by name.

    Not those of something that can be reset, such as a metric of torchmetrics: its value is that of the batch.
    """
    whole = isinstance(function, nn.Module)
    if whole:
        yield from function.named_buffers()
        yield from function.named_parameters()
    for prefix, part in function.named_modules() if whole else [("", function)]:
        if callable(getattr(part, "reset", None)):
            continue
        for key, value in getattr(part, "__dict__", {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{prefix}.{key}" if prefix else key, value


def _seeded(call: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return call()


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return bool(first == second or (first != first and second != second))
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-6, atol=0, equal_nan=True)
