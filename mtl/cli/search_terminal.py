"""What a search shows while it runs: one bar with the best score so far."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mtl.cli.terminal import console
from mtl.search.engine import Search


class SearchTerminal:
    """An observer of searches that prints; bars only where the output is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> SearchTerminal:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def segment(self, search: Search) -> None:
        """Move the bar; print a line when the search is over."""
        title = f"{search.phase} {search.label}".strip()
        if search.name not in self._tasks:
            self._tasks[search.name] = self._bars.add_task(escape(title), total=search.method.work)
        best = search.best
        words = "no run is finite" if best is None else f"best {search.objective.words(best[1])}"
        alive = f"{len(search.alive)} of {len(search.trials)} runs"
        task = self._tasks[search.name]
        self._bars.update(task, completed=search.tally.steps, description=escape(f"{title}: {words}, {alive}"))
        if not search.alive:
            self._bars.remove_task(task)
            if not self.quiet:
                broken = search.tally.replaced_nonfinite
                counts = f"{len(search.trials)} runs, {search.tally.steps} steps, {search.tally.exploits} exploits"
                replaced = f", {broken} of runs that were not finite" if broken else ""
                console.print(escape(f"{title}: {words}; {counts}{replaced}"), highlight=False, soft_wrap=True)

    def trial(self, search: Search, record: dict[str, Any]) -> None:
        """Runs are too many to print one by one."""
