"""One dimension of a space: a parameter, and beside which choices it exists."""

from __future__ import annotations

from dataclasses import dataclass

from mtl.search.space.parameters import Parameter


@dataclass(frozen=True)
class Condition:
    """A parameter exists where `parent` is one of `choices`."""

    parent: str
    choices: frozenset[str]


@dataclass(frozen=True)
class Dimension:
    """A parameter, and when it exists; without a condition, always."""

    parameter: Parameter
    condition: Condition | None = None
