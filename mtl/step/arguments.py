"""What the balancer's arguments may be."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from mtl.messages import kind_of
from mtl.step.measure import MEASURERS, NEEDS_GRADIENTS
from mtl.step.subset import DIVISIBLE
from mtl.strategies.strategy import Strategy

HeadWeighting = Literal["weighted", "own"]
Scale = Literal["sum_to_k", "raw"]
Batching = Literal["auto", "vmap", "loop"]
Absent = Literal["hold", "subset"]
Unused = Literal["error", "zero"]

_ALLOWED: dict[str, tuple[str, ...]] = {
    "head_weighting": get_args(HeadWeighting),
    "scale": get_args(Scale),
    "batching": get_args(Batching),
    "absent": get_args(Absent),
    "unused": get_args(Unused),
}


_SHARED = "give the module that all tasks share, or its parameters()"


def named_parameters(shared: nn.Module | Iterable[Tensor]) -> tuple[list[Tensor], list[str] | None]:
    """The shared parameters, and their names where a module is given.

    Raises:
        TypeError: something else is given; the message says what to give instead.
    """
    if isinstance(shared, nn.Module):
        named = dict(shared.named_parameters())
        return list(named.values()), list(named)
    if isinstance(shared, Tensor) or not isinstance(shared, Iterable):
        raise TypeError(f"shared is {kind_of(shared)}: {_SHARED}")
    found: list[Any] = list(shared)
    for item in found:
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Tensor):
            raise TypeError(
                f"shared holds pairs such as {item[0]!r} and a parameter: give the module itself, or its parameters() "
                "in place of named_parameters()"
            )
        if not isinstance(item, Tensor):
            raise TypeError(f"shared holds {kind_of(item)}: {_SHARED}")
    return found, None


def sharded(parameters: Sequence[Tensor]) -> bool:
    """Whether a parameter is divided among processes (a DTensor, as `fully_shard` of FSDP2 makes of each)."""
    module = sys.modules.get("torch.distributed.tensor")  # without it there can be none
    return module is not None and any(isinstance(parameter, module.DTensor) for parameter in parameters)


def refuse_sharded(strategy: Strategy, head_weighting: str, in_use: Mapping[str, bool]) -> None:
    """Raise `ValueError` for what cannot be done with parameters that are divided among processes."""
    where = "the shared parameters are divided among processes (FSDP2)"
    if strategy.needs & NEEDS_GRADIENTS or strategy.elementwise:
        raise ValueError(
            f"{where}, and {strategy} compares whole gradients on them: take a strategy that reads losses alone, such "
            "as uncertainty, dwa or famo, or train with DistributedDataParallel and process_group="
        )
    if head_weighting == "own":
        raise ValueError(f"{where}, which allows no backward pass for the heads alone, as head_weighting='own' needs")
    for option, used in in_use.items():
        if used:
            raise ValueError(f"{where}, and {option}= cannot go with that")


def refuse_subset(strategy: Strategy, *, several_processes: bool) -> None:
    """Raise `ValueError` where `absent="subset"` cannot be."""
    beyond = sorted(strategy.needs - DIVISIBLE)
    if beyond or strategy.tracking or strategy.elementwise:
        what = f"reads {', '.join(beyond)}" if beyond else "keeps gradients of all tasks"
        raise ValueError(f"{strategy} {what}, which cannot be cut down to some tasks: absent='subset' is not for it")
    if several_processes:
        raise ValueError("absent='subset' cannot go with process_group=: processes may lack different tasks")


def refuse_values(**given: str) -> None:
    """Raise `ValueError` for the first option that is not one of its words."""
    for option, value in given.items():
        if value not in _ALLOWED[option]:
            raise ValueError(f"{option}={value!r} must be one of {', '.join(_ALLOWED[option])}")


def refuse_counts(**given: int | None) -> None:
    """Raise `ValueError` for the first option that is given and not positive."""
    for option, number in given.items():
        if number is not None and number < 1:
            raise ValueError(f"{option}={number} must be at least 1")


def refuse_options(strategy: Strategy, *, rows: bool, **used: bool) -> None:
    """Raise `ValueError` for the first option in use that the strategy cannot have.

    Args:
        strategy: what it is for.
        rows: it needs more than losses and a Gramian of one batch.
        used: whether each option is used, by name.
    """
    if used["blocks"] and "gramian" not in strategy.needs:
        raise ValueError(f"{strategy} reads no Gramian and cannot use blocks=")
    for option, in_use in used.items():
        if in_use and rows:
            raise ValueError(f"{strategy} needs more than a Gramian of this batch and cannot use {option}=")


def refuse_features(strategy: Strategy, needs: frozenset[str], *, plain: bool) -> None:
    """Raise `ValueError` if a step cannot use features.

    Args:
        strategy: what it is for.
        needs: the signals that it will read.
        plain: no option changes what the Gramian is or how it is measured.
    """
    if needs & {"jacobian", "dither", *MEASURERS}:
        raise ValueError(f"{strategy} needs gradients on the shared parameters and cannot use features=")
    if not plain:
        raise ValueError("features= cannot go with blocks=, measured_on= or memory_limit=")
