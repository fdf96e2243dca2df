"""`schedule.jsonl`: which run began, and which took over another, at what step and with which values."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import msgspec

from mtl.files.json_lines import read_lines
from mtl.files.schema import fault
from mtl.files.whole import writing

Values = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One line of the schedule.

    Attributes:
        search: name of the search, of which a comparison has several.
        step: of the target, when it happened.
        target: number of the run that changed.
        source: number of the run whose state it took over; None when it began.
        seed: of the target.
        before: its values until then; None when it began.
        after: its values from then on.
        scores: of `target` and `source` at that step, higher is better; None for one that is not finite.
        source_step: steps that the source had made; others than `step` where runs do not wait for each other.
        spent: steps that all runs of the search together had made.
        shards: in how many shards the runs were trained when it began; None where in one process.
    """

    search: str
    step: int
    target: int
    source: int | None
    seed: int
    before: Values | None
    after: Values
    scores: dict[str, float | None]
    source_step: int | None = None
    spent: int | None = None
    shards: int | None = None

    def line(self) -> str:
        """The event as a line of JSON."""
        scores = {key: score if score is None or math.isfinite(score) else None for key, score in self.scores.items()}
        return json.dumps({**asdict(self), "scores": scores}) + "\n"


@dataclass(frozen=True)
class Stage:
    """A stretch of a schedule: from `step` on, run `trial` had `values`.

    It began with the state of the run of the stretch before it, as it was after `source_step` steps of that one.
    """

    step: int
    trial: int
    seed: int
    values: Values
    source_step: int | None = None


def source_steps(change: Event | Stage) -> int:
    """How many steps the source had made when its state was taken over; those of the target where all go together."""
    return change.step if change.source_step is None else change.source_step


def write_events(path: Path, events: Iterable[Event], offset: int) -> int:
    """Write events at a byte offset, cutting off what stands behind it, and return the offset after them.

    What stands behind it comes from a segment that was not checkpointed, and is about to be written again.
    """
    with writing(path), path.open("ab") as file:
        file.truncate(offset)
        file.write("".join(event.line() for event in events).encode())
        file.flush()
        os.fsync(file.fileno())
        return file.seek(0, 2)


def offset_before(path: Path, search: str) -> int:
    """Where the events of `search` begin, or the end of the file: what a search that begins anew writes at."""
    offset = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            begins = json.loads(line)["search"] == search
        except (ValueError, KeyError, TypeError):
            begins = not line.endswith(b"\n")  # a crash cut it short; one damaged later is left where it is
        if begins:
            break
        offset += len(line)
    return offset


def damaged_events(path: Path) -> list[int]:
    """Numbers of the lines that are no events, beside a last one that a crash cut short."""
    lines = read_lines(path)
    return sorted([*lines.damaged, *(number for number, value in lines.whole if fault(value, Event))])


def read_events(path: Path, search: str | None = None) -> list[Event]:
    """The events of one search, or of all; lines that are none are left out."""
    events = []
    for _, value in read_lines(path).whole:
        if fault(value, Event) is None and search in (None, value["search"]):
            event = msgspec.convert(value, Event)
            events.append(replace(event, before=tupled(event.before), after=tupled(event.after)))
    return events


def winning_line(events: Sequence[Event], record: Mapping[str, Any]) -> list[Stage]:
    """The stages that led to the evaluation that a run is recorded with."""
    return ancestry(events, record.get("best_trial", record["trial"]), record["best_step"])


def ancestry(events: Sequence[Event], trial: int, at: float = math.inf) -> list[Stage]:
    """The stages that made `trial` what it was after `at` steps, by default at its end; the first one first.

    Raises:
        ValueError: the schedule does not say how one of them began.
    """
    stages: list[Stage] = []
    while True:
        event = next((event for event in reversed(events) if event.target == trial and event.step < at), None)
        if event is None:
            raise ValueError(f"the schedule does not say how run {trial} began")
        source_step = None if event.source is None else source_steps(event)
        stages.append(Stage(event.step, trial, event.seed, event.after, source_step))
        if event.source is None:
            return stages[::-1]
        trial, at = event.source, source_steps(event)


def is_complete(events: Sequence[Event]) -> bool:
    """Whether the schedule says of every run that was taken over how it had come about."""
    begun: dict[int, int] = {}  # the first step of each run that is known
    for event in events:
        begun[event.target] = min(event.step, begun.get(event.target, event.step))
    return all(
        event.source in begun and begun[event.source] < source_steps(event)
        for event in events
        if event.source is not None
    )


@overload
def tupled(values: Mapping[str, Any]) -> Values: ...


@overload
def tupled(values: Mapping[str, Any] | None) -> Values | None: ...


def tupled(values: Mapping[str, Any] | None) -> Values | None:
    """Values as they were before JSON or YAML made lists of tuples."""
    if values is None:
        return None
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def winner(records: Sequence[Mapping[str, Any]], higher_is_better: Mapping[str, bool]) -> Mapping[str, Any] | None:
    """The run of a search with the best first objective, of those trained to the end; None when none has one."""
    name, higher = next(iter(higher_is_better.items()))

    def score(record: Mapping[str, Any]) -> float:
        value = (record.get("objective") or {}).get(name)
        return -math.inf if value is None else value if higher else -value

    whole = [record for record in records if record["status"] == "done" and score(record) > -math.inf]
    return max(whole, key=lambda record: (score(record), -record["trial"]), default=None)
