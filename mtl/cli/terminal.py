"""What a study shows while it runs: two progress bars, and a line for each run as it finishes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtl.cli.console import console as console
from mtl.study.plan import Plan, RunPlan

_SECONDS = 30.0  # from one line to the next where the output is not a terminal
_STYLES = {"done": "green", "diverged": "yellow", "failed": "red"}


class Terminal:
    """An observer of a study that prints; bars only where the output is a terminal."""

    def __init__(self, plan: Plan, finished: int, *, quiet: bool) -> None:
        self.quiet = quiet
        self._said = time.monotonic()
        self.width = max(len(_label(run)) for run in plan.runs)
        self.progress_bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self.overall = self.progress_bars.add_task("runs", total=len(plan.runs), completed=finished)
        self.current = self.progress_bars.add_task("", total=None)
        if finished and not quiet:
            console.print(f"{finished} of {len(plan.runs)} runs are finished already")

    def __enter__(self) -> Terminal:
        self.progress_bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress_bars.stop()

    def begin(self, run: RunPlan, hyperparameters: dict[str, Any]) -> None:  # noqa: ARG002
        """Show the run in the lower bar."""
        self.progress_bars.reset(self.current, description=f"{_label(run)} seed {run.seed}")

    def progress(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """Show the runs in the lower bar, and move it."""
        seeds = f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0].seed}"
        label = f"{_label(runs[0])} {seeds}"
        self.progress_bars.update(self.current, description=label, completed=done, total=total)

    def learning(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """Show in the lower bar how far losses are that learn before training; say so where nothing moves."""
        label = f"{_label(runs[0])}: learning {'its' if len(runs) == 1 else 'their'} losses before training"
        self.progress_bars.update(self.current, description=escape(label), completed=done, total=total)
        if not self.quiet and not console.is_terminal and time.monotonic() - self._said >= _SECONDS:
            self._said = time.monotonic()
            console.print(escape(f"{label}, {done:,} of {total:,} steps"), highlight=False, soft_wrap=True)

    def row(self, run: RunPlan, step: int, values: dict[str, float]) -> None:
        """Curves are not shown in the terminal."""

    def end(self, run: RunPlan, record: dict[str, Any]) -> None:
        """Print the run's primary metrics and what was skipped."""
        self.progress_bars.advance(self.overall)
        if self.quiet:
            return
        status = record["status"]
        primary = [f"{task} {next(iter(values.values())):.3f}" for task, values in _shown(record["metrics"]).items()]
        skipped = "".join(f"  {count} {kind}" for kind, count in record["skipped"].items())
        detail = record["error"] or "  ".join(primary)
        seconds = f"{record['cost'].get('seconds', 0):6.1f} s"
        console.print(
            f"{escape(_label(run)):<{self.width}}  seed {run.seed}  [{_STYLES[status]}]{status:<8}[/]  {seconds}  "
            f"{escape(detail)}[yellow]{escape(skipped)}[/]",
            highlight=False,
            soft_wrap=True,
        )


def _label(run: RunPlan) -> str:
    return f"{run.task} alone" if run.task else run.strategy


def _shown(metrics: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float]]:
    """NaN for what could not be measured, so that it can be formatted."""
    return {
        task: {name: float("nan") if value is None else value for name, value in values.items()}
        for task, values in metrics.items()
    }
