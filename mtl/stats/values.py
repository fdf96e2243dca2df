"""What statistics are made from: metrics by task, of which some may be absent."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeGuard, TypeVar

#: Of one run: a number by task and metric; None where there is none.
Metrics = Mapping[str, Mapping[str, float | None]]
#: By task and metric, whether higher is better.
Directions = Mapping[str, Mapping[str, bool]]
Key = TypeVar("Key", bound=Hashable)


def finite(value: float | None) -> TypeGuard[float]:
    """Whether there is a number: not None, not NaN, not infinite."""
    return value is not None and math.isfinite(value)
