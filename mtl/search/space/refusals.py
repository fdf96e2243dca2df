"""Points of a space that no run begins with, for a reason that is known before it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mtl.train.values import Values


@dataclass
class Refusals:
    """Tells which points are refused, and counts them.

    Attributes:
        rule: why a point is refused; None where it is not.
        count: points that were refused.
        example: why the first of them was.
    """

    rule: Callable[[Values], str | None]
    count: int = 0
    example: str = ""

    def refuse(self, values: Values) -> bool:
        """Whether a point is refused, which is counted."""
        reason = self.rule(values)
        if reason is None:
            return False
        self.count += 1
        self.example = self.example or reason
        return True

    def words(self) -> str:
        """What is said of them; empty where there were none."""
        if not self.count:
            return ""
        points = "one point was" if self.count == 1 else f"{self.count} points were"
        return f"{points} refused, and others taken in their place; the first one for {self.example}"
