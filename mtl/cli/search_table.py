"""What is seen of a running search: how far it is, the best run, what went wrong, and its shards."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtl.search.search import Search
from mtl.search.trial import Trial

_REMEMBERED = 10  # segments that the pace is a mean of
_AROUND = 8  # lines of the terminal that are not for shards


class Progress:
    """A search as it is now, in words and as a table; may be drawn from another thread.

    Args:
        search: that is being carried out.
        lost: processes that were lost.
    """

    def __init__(self, search: Search, lost: int = 0) -> None:
        self.search, self.lost = search, lost
        self._paces: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)

    def segment(self) -> None:
        """A segment is over."""
        self._paces.append((time.monotonic(), self.search.totals.steps))

    @property
    def rate(self) -> float | None:
        """Steps of all runs a second; unknown before the second segment."""
        if len(self._paces) < 2:
            return None
        (begin, first), (end, last) = self._paces[0], self._paces[-1]
        return (last - first) / max(end - begin, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that are left, at most where runs may be stopped early."""
        rate = self.rate
        if not rate:
            return None
        end, steps = self._paces[-1]
        return max(0.0, (self.search.method.work - steps) / rate - (time.monotonic() - end))

    @property
    def title(self) -> str:
        """What is searched."""
        if self.search.task is not None:
            return f"{'search' if self.search.phase == 'search' else 'final'} {self.search.task} alone"
        return f"{self.search.phase} {self.search.label or self.search.method.name}"

    def pace(self) -> str:
        """Steps, their rate, and the time that is left."""
        rate, left = self.rate, self.left
        if learning := self.search.learning:
            return learning
        words = f"{self.search.totals.steps:,} of {self.search.method.work:,} steps"
        return words if rate is None or left is None else f"{words}, {rate:,.0f} a second, {_clock(left)} left"

    def best(self) -> str:
        """The best scores so far."""
        best = self.search.best
        if best is None:
            return "no run is finite" if self.search.totals.steps else "no run is evaluated yet"
        return f"best {self.search.objective.words(best[1].scores)}"

    def counts(self) -> str:
        """Runs, exploits and failures."""
        totals, trials = self.search.totals, self.search.trials
        alive = {trial.number for trial in self.search.alive}
        broken = sum(_broken(trial) for trial in list(trials) if trial.number not in alive)
        unit = f"{self.search.unit}s"
        words = [f"{len(alive)} of {len(trials)} {unit}" if alive else f"{len(trials)} {unit}"]
        words += [f"{totals.exploits} exploits"] if totals.exploits else []
        words += [f"{totals.replaced_nonfinite} of runs that were not finite"] if totals.replaced_nonfinite else []
        words += [f"{broken} {unit} ended not finite"] if broken else []
        words += [f"{self.lost} process{'es' * (self.lost > 1)} lost"] if self.lost else []
        return ", ".join(words)

    def informed(self) -> str:
        """How many of the proposals knew what they were to learn from."""
        found = self.search.standing.informed
        return "" if found is None else f"; {found[0]} of {found[1]} proposals had seen scores"

    def line(self) -> str:
        """All of it, where there is no terminal to draw on."""
        return f"{self.title}: {self.pace()}; {self.best()}; {self.counts()}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A bar, two lines, and a row for each shard."""
        title, pace = self.title, self.pace()
        width = max(4, min(24, options.max_width - len(title) - len(pace) - 2))
        done = ProgressBar(total=self.search.method.work, completed=self.search.totals.steps, width=width)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(Text(title), done, _one_line(pace))
        lines: list[RenderableType] = [bar, _one_line(self.best() + self._run()), _one_line(self.counts())]
        room = max(1, (options.height or console.height) - _AROUND)
        yield Group(*lines, *(self._places(room)))

    def _run(self) -> str:
        best = self.search.best
        if best is None:
            return ""
        trial, found = best
        values = [f"{name.removeprefix('strategy.')}={_short(value)}" for name, value in found.values.items()]
        return f" by {self.search.unit} {trial.number} at step {found.step:,}: {' '.join(values)}"

    def _places(self, room: int) -> list[RenderableType]:
        if self.search.alive:
            return [self._shards(room)]
        return [] if self.search.totals.steps else [Text("starting")]

    def _shards(self, room: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for column in ("shard", "node", "runs", "step"):
            table.add_column(column, justify="right" if column in ("runs", "step") else "left", no_wrap=True)
        table.add_column("state", no_wrap=True)
        alive = list(self.search.alive)
        places = list(self.search.places)
        shown = places if len(places) <= room else places[: room - 1]
        for number, place in enumerate(shown):
            there = [alive[index].step for index in place.members if index < len(alive)]
            table.add_row(str(number), place.where, str(len(there)), _range(there), place.state)
        if len(shown) < len(places):
            states = Counter(place.state for place in places[len(shown) :])
            rest = ", ".join(f"{count} {state}" for state, count in states.items())
            table.add_row("…", "", "", "", rest)
        if alive and not places:
            there = [trial.step for trial in alive]
            table.add_row("0", "this process", str(len(there)), _range(there), "training")
        return table


def _broken(trial: Trial) -> bool:
    return bool(trial.curve) and trial.curve[-1][2][0] == -math.inf


def _range(steps: Sequence[int]) -> str:
    if not steps:
        return "–"
    return f"{steps[0]:,}" if len(set(steps)) == 1 else f"{min(steps):,}–{max(steps):,}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")
