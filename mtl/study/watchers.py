"""Tells the observers of a study what happens; one that fails is left out, since it is not what the study is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mtl.study.plan import RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setup import Observer


class Watchers:
    """All observers of a study as one.

    Args:
        observers: each is told until it raises.
        directory: where the traceback of one that does is written.
        tell: hears of it.
    """

    def __init__(self, observers: Sequence[Observer], directory: RunDirectory, tell: Callable[[str], None]) -> None:
        self._observers, self._directory, self._tell = list(observers), directory, tell

    def begin(self, run: RunPlan, hyperparameters: dict[str, Any]) -> None:
        """A run starts or continues."""
        self._each(lambda observer: observer.begin(run, hyperparameters))

    def progress(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """A step was made in a run, or in several at once."""
        self._each(lambda observer: observer.progress(runs, done, total))

    def learning(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """Losses of a run, or of several at once, have learned for a while before training."""
        self._each(lambda observer: observer.learning(runs, done, total))

    def row(self, run: RunPlan, step: int, values: dict[str, float]) -> None:
        """A point of the run's curves."""
        self._each(lambda observer: observer.row(run, step, values))

    def end(self, run: RunPlan, record: dict[str, Any]) -> None:
        """A run is finished and written."""
        self._each(lambda observer: observer.end(run, record))

    def _each(self, tell: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                tell(observer)
            except Exception as error:
                self._observers.remove(observer)
                name = type(observer).__name__
                path = self._directory.write_failure(f"observer-{name}", error)
                self._tell(f"{name} failed and is left out, the study goes on: {one_line(error)} (traceback: {path})")


def one_line(error: BaseException) -> str:
    """An exception as the first line of a traceback's end has it."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
