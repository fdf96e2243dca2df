"""What the balancer's arguments may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
