"""The time that `mtl auto` is given: how it is written, and how much of it is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<unit>[smh])")


def read_time(text: str) -> float:
    """Seconds, from `90s`, `10m` or `1.5h`.

    Raises:
        ValueError: it is written otherwise, or is no time at all; one line.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"--time {text}: a number with s, m or h behind it is wanted, such as 90s, 10m or 1.5h")
    seconds = float(found["number"]) * _UNITS[found["unit"]]
    if not seconds > 0:
        raise ValueError(f"--time {text}: it must be above 0")
    return seconds


def shown(seconds: float) -> str:
    """A time in words: `45 s`, `9:30 min`, `1:05 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if seconds >= 3600 else f"{minutes}:{int(seconds % 60):02d} min"


class Clock:
    """Counts the seconds of a command that may have been stopped and resumed.

    Args:
        limit: seconds in all.
        spent: seconds of the processes before this one.
        now: tells the time in seconds.
        begun: when this process began, by `now`; at once where it is not given.
    """

    def __init__(
        self,
        limit: float,
        spent: float = 0.0,
        now: Callable[[], float] = time.monotonic,
        begun: float | None = None,
    ) -> None:
        self.limit, self.now = limit, now
        self._spent, self._begun = spent, now() if begun is None else begun

    @property
    def elapsed(self) -> float:
        """Seconds that are over."""
        return self._spent + self.now() - self._begun
