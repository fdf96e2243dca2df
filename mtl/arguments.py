"""What the balancer's arguments may be, and how they divide the shared parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from mtl.engine.measured import UNMEASURED
from mtl.graph import distinct
from mtl.signals import CLOSURES, MEASURERS
from mtl.strategy import Strategy

_ALLOWED = {"head_weighting": ("weighted", "own"), "scale": ("sum_to_k", "raw")}


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


def refuse_options(strategy: Strategy, dense: bool, **used: bool) -> None:
    """Raise `ValueError` for the first option in use that the strategy cannot have.

    Args:
        strategy: what it is for.
        dense: it needs more than losses and a Gramian of one batch.
        used: whether each option is used, by name.
    """
    if used["blocks"] and "gramian" not in strategy.needs:
        raise ValueError(f"{strategy} reads no Gramian and cannot use blocks=")
    for option, in_use in used.items():
        if in_use and dense:
            raise ValueError(f"{strategy} needs more than a Gramian of this batch and cannot use {option}=")


def refuse_call(
    strategy: Strategy, needs: frozenset[str], given: Mapping[str, Any], features: bool, *, plain: bool
) -> None:
    """Raise `ValueError` if a step lacks an argument, or has one that it cannot use.

    Args:
        strategy: what it is for.
        needs: the signals that it will read.
        given: closures and numbers by the names that `CLOSURES` has.
        features: whether there are features.
        plain: no option changes what the Gramian is or how it is measured.
    """
    wanted = {name: text for signal, asked in CLOSURES.items() if signal in needs for name, text in asked.items()}
    missing = [f"{name}={text}" for name, text in wanted.items() if given[name] is None]
    if missing:
        read = ", ".join(sorted(needs & CLOSURES.keys()))
        raise ValueError(f"{strategy} reads {read}: call backward(losses, {', '.join(missing)})")
    if features and needs & {"jacobian", "dither", *MEASURERS}:
        raise ValueError(f"{strategy} needs gradients on the shared parameters and cannot use features=")
    if features and not plain:
        raise ValueError("features= cannot go with blocks=, measured_on= or memory_limit=")


def grouped(
    shared: Sequence[Tensor], measured_on: Iterable[Tensor] | None, blocks: Iterable[Iterable[Tensor]] | None
) -> tuple[dict[int, int], int]:
    """The group of each shared parameter by its id, and the number of blocks."""
    if measured_on is not None and blocks is not None:
        raise ValueError("measured_on= and blocks= cannot be combined: leave parameters out of `shared` instead")
    known = {id(parameter) for parameter in shared}
    if measured_on is not None:
        chosen = {id(parameter) for parameter in measured_on if parameter.requires_grad}
        if not chosen or not chosen <= known:
            raise ValueError("measured_on must hold some of the shared parameters, and only those")
        return {key: 0 if key in chosen else UNMEASURED for key in known}, 1
    if blocks is None:
        return dict.fromkeys(known, 0), 1
    parts = [distinct(parameter for parameter in block if parameter.requires_grad) for block in blocks]
    groups = {id(parameter): at for at, block in enumerate(parts) for parameter in block}
    if groups.keys() != known or sum(map(len, parts)) != len(known) or not all(parts):
        raise ValueError("blocks must divide the shared parameters: each in one block, and no block empty")
    return groups, len(parts)
