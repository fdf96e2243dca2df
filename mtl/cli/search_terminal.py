"""What a search shows while it runs: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from mtl.cli.search_table import Progress
from mtl.cli.terminal import console
from mtl.search.search import Search

_SECONDS = 30.0  # from one line to the next where the output is not a terminal


class SearchTerminal:
    """An observer of searches that prints; nothing but the result of each when `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._now: Progress | None = None
        self._live: Live | None = None
        self._said = time.monotonic()

    def __enter__(self) -> SearchTerminal:
        if console.is_terminal and not self.quiet:
            self._live = Live(get_renderable=self._drawn, console=console, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self, search: Search, lost: int = 0) -> Search:
        """Show a search from now on, before its first segment is over, and that so many processes were lost."""
        self._now = Progress(search, lost)
        return search

    def segment(self, search: Search) -> None:
        """Note the pace; print a line when one is due, and when the search is over."""
        if self._now is None or self._now.search is not search:
            self.watch(search)
        assert self._now is not None
        self._now.segment()
        if not search.alive:
            now, self._now = self._now, None
            if not self.quiet:
                self._print(f"{now.title}: {now.best()}; {search.totals.steps:,} steps, {now.counts()}{now.informed()}")
        else:
            self._line_when_due()

    def heeding(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """`should_stop`, which is asked within a segment too, with a line now and then of one that lasts."""

        def asked() -> bool:
            self._line_when_due()
            return should_stop()

        return asked

    def trial(self, search: Search, record: dict[str, Any]) -> None:
        """Runs are too many to print one by one."""

    def _line_when_due(self) -> None:
        due = time.monotonic() - self._said >= _SECONDS
        if due and self._now is not None and self._live is None and not self.quiet:
            self._print(self._now.line())

    def _print(self, text: str) -> None:
        self._said = time.monotonic()
        console.print(escape(text), highlight=False, soft_wrap=True)

    def _drawn(self) -> RenderableType:
        return Text() if self._now is None else self._now
