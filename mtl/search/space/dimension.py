"""One dimension of a space: a parameter, and beside which choices it exists."""

from __future__ import annotations

from dataclasses import dataclass

from mtl.search.space.parameters import Parameter


@dataclass(frozen=True)
class Condition:
    """Under which choices of `parent` a parameter exists."""

    parent: str
    choices: frozenset[str]


@dataclass(frozen=True)
class Dimension:
    """A parameter and when it exists; None: always."""

    parameter: Parameter
    condition: Condition | None = None
