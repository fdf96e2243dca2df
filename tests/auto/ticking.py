"""A clock that is read, not waited for."""

from __future__ import annotations


class Ticking:
    """Each look at it takes a while.

    Args:
        tick: seconds of a look.
        at: the time to begin with.
    """

    def __init__(self, tick: float, at: float = 0.0) -> None:
        self.tick, self.at = tick, at

    def __call__(self) -> float:
        self.at += self.tick
        return self.at
