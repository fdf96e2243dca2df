"""What distinguishes one run of a population from its siblings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Member:
    """One run of a population.

    Attributes:
        strategy: its spec.
        seed: of parameters, batches and the strategy's noise, as in `mtl.train.train`.
        settings: values over those of the common `mtl.train.Settings`.
        losses: by task, parameters over those of its loss.
    """

    strategy: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
