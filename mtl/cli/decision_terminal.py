"""What `mtl auto` shows while it decides: a line for each decision, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.live import Live
from rich.markup import escape
from rich.text import Text

from mtl.auto.clock import Clock, shown
from mtl.cli.terminal import console
from mtl.search.search import Search

_SECONDS = 30.0  # from one line to the next where the output is not a terminal


class DecisionTerminal:
    """An observer of a decision that prints; nothing when `quiet`.

    Args:
        clock: of the decision.
        quiet: prints nothing.
    """

    def __init__(self, clock: Clock, *, quiet: bool) -> None:
        self._clock, self._quiet = clock, quiet
        self._now = ""
        #: Says how far losses are that learn before training; empty where none does.
        self.learning: Callable[[], str] = str
        self._live: Live | None = None
        self._said = time.monotonic()

    def __enter__(self) -> DecisionTerminal:
        if console.is_terminal and not self._quiet:
            self._live = Live(get_renderable=self._drawn, console=console, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take away what moves."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            console.print(escape(f"[{shown(self._clock.elapsed)}] {text}"), highlight=False, soft_wrap=True)

    def segment(self, search: Search) -> None:
        """Note how far it is; print it when a line is due."""
        best = "nothing finite yet" if search.best is None else f"best {search.objective.words(search.best[1].scores)}"
        if search.phase == "search":
            self._now = f"race: {len(search.trials)} candidates, {len(search.alive)} running, {best}"
        else:
            step = max((trial.step for trial in search.trials), default=0)
            self._now = f"{search.name}: {len(search.trials)} runs at step {step} of {search.problem.length}"
        self._line_when_due()

    def heeding(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """`should_stop`, which is asked within a segment too, with a line now and then of one that lasts."""

        def asked() -> bool:
            self._line_when_due()
            return should_stop()

        return asked

    def _line_when_due(self) -> None:
        if self._live is None and time.monotonic() - self._said >= _SECONDS and (words := self._words()):
            self._said = time.monotonic()
            self.say(words)

    def _words(self) -> str:
        return "; ".join(filter(None, (self._now, self.learning())))

    def trial(self, search: Search, record: dict[str, Any]) -> None:
        """Runs are too many to print one by one."""

    def _drawn(self) -> Text:
        return Text(f"[{shown(self._clock.elapsed)} of {shown(self._clock.limit)}] {self._words()}")
