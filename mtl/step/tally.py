"""Counting what happens on a device without waiting for it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from mtl.strategies.strategy import DOMAINS, Strategy


class Tally:
    """Counts by name, of events that the host or only the device knows of; reading waits for the device."""

    def __init__(self) -> None:
        self._known: Counter[str] = Counter()
        self._pending: dict[str, Tensor] = {}

    def load(self, counts: Mapping[str, int]) -> None:
        """Go on from earlier counts, in place of its own."""
        self._known, self._pending = Counter(counts), {}

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


class DomainWatch:
    """Warns once of each task whose loss has left the domain of a strategy."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self._said: set[int] = set()
        self._marked: Tensor | None = None

    def see(self, losses: Tensor, tasks: Sequence[str] | None, *, look: bool) -> None:
        """Look at losses (..., K), or have the device mark what there is to see until somebody calls `look`."""
        if self.strategy.domain == "any" or len(self._said) == losses.shape[-1]:
            return
        if look and _all_positive(losses):  # the usual case
            return
        outside = self.strategy.outside(losses).reshape(-1, losses.shape[-1]).any(0)
        self._marked = outside if self._marked is None else self._marked | outside
        if look:
            self.look(tasks)

    def look(self, tasks: Sequence[str] | None) -> None:
        """Warn of what has been marked; waits for the device."""
        if self._marked is None:
            return
        found = [k for k, outside in enumerate(self._marked.tolist()) if outside and k not in self._said]
        self._said |= set(found)
        self._marked = None
        if found:
            named = ", ".join(repr(tasks[k]) if tasks is not None else str(k) for k in found)
            subject = f"that of task {named} is" if len(found) == 1 else f"those of tasks {named} are"
            warnings.warn(
                f"{self.strategy} is made for {DOMAINS[self.strategy.domain]}, and {subject} not: "
                "docs/strategies says what such a task weighs then",
                stacklevel=4,
            )


def _all_positive(losses: Tensor) -> bool:
    """Whether every loss is above zero, none of them NaN."""
    if losses.ndim == 1:  # so few are read sooner than an operation on them is started
        return all(loss > 0 for loss in losses.tolist())
    return float(losses.amin()) > 0
