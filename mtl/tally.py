"""Counting what happens on a device without waiting for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import Tensor


class Tally:
    """Counts by name, of events that the host or only the device knows of; reading waits for the device."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self._known: Counter[str] = Counter(counts or {})
        self._pending: dict[str, Tensor] = {}

    def add(self, name: str, happened: bool | Tensor = True) -> None:
        """Count one event if it happened."""
        if isinstance(happened, Tensor):
            before = self._pending.get(name)
            self._pending[name] = happened.long() if before is None else before + happened
        elif happened:
            self._known[name] += 1

    def counts(self) -> Counter[str]:
        """The counts that are not zero."""
        for name, count in self._pending.items():
            self._known[name] += int(count)
        self._pending = {}
        return Counter({name: count for name, count in self._known.items() if count})
