"""Trains a schedule again: that of a finished search, from scratch, or a tuned one under fresh seeds."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mtl.lineage import Event, Stage, taken, winning_line
from mtl.search.cohort import MakeCohort
from mtl.search.engine import Search
from mtl.search.methods import Decision, Exploit, Method, Options, Problem, Report, Start
from mtl.search.objective import Objective
from mtl.study.rundir import RunDirectory


class Scripted(Method):
    """Runs whose changes are known beforehand, by the steps that were made since the first of them began."""

    name: ClassVar[str] = "replay"
    about: ClassVar[str] = "a schedule that is known beforehand"

    def __init__(self, problem: Problem, starts: Sequence[Start], script: Mapping[int, Decision]) -> None:
        later = [start for decision in script.values() for start in decision.start]
        super().__init__(problem, Options(members=len(starts) + len(later)))
        self._starts, self._script = list(starts), script

    def begin(self) -> list[Start]:
        return self._starts

    def decide(self, reports: Sequence[Report]) -> Decision:
        first = reports[0]
        return self._script.get(self._begun(first.trial) + first.step, Decision())

    def _begun(self, trial: int) -> int:
        """When a run began: numbers are given in order of beginning."""
        later = [time for time in sorted(self._script) for _ in self._script[time].start]
        return [*[0] * len(self._starts), *later][trial]


def retraced(problem: Problem, stages: Sequence[Stage], until: int) -> tuple[Scripted, int]:
    """The runs that one descends from, each with its own seed, and the exploits that lead to it; and that one's number.

    All end when that one has made `until` steps.

    Runs that did not wait for each other begin at different times, so that a state is there when it is taken over.
    """
    begun = _begun(stages)
    runs = [(time, stage.trial) for time, stage in zip(begun, stages, strict=True)]
    # Of two that begin together the later in the line has the lower number.
    order = sorted(dict.fromkeys(reversed(runs)), key=lambda run: run[0])
    number = {run: place for place, run in enumerate(order)}
    # A run that enters later is trained up to there under its later values, because nothing of that part survives.
    first = {run: stage for run, stage in zip(reversed(runs), reversed(stages), strict=True)}
    script: dict[int, Decision] = {}
    for before, run, stage in zip(runs, runs[1:], stages[1:], strict=False):
        if run == before:
            made = Decision(changes={number[run]: stage.values})
        else:
            made = Decision([Exploit(number[run], number[before], stage.values)])
        script[run[0] + stage.step] = made
    starts: dict[int, list[Start]] = {}
    for run in order:
        starts.setdefault(run[0], []).append(Start(first[run].values, first[run].seed))
    for time, some in starts.items():
        if time > 0:
            script[time] = dataclasses.replace(script.get(time, Decision()), start=some)
    script[runs[-1][0] + until] = Decision(stop=frozenset(number.values()))
    return Scripted(problem, starts[0], script), number[runs[-1]]


def _begun(stages: Sequence[Stage]) -> list[int]:
    """When the run of each stage began, by a clock that all share and that shows 0 when the first did."""
    begun = [0]
    for after in reversed(stages[1:]):
        begun.append(begun[-1] + after.step - taken(after))
    return [time - min(begun) for time in reversed(begun)]


def repeated(problem: Problem, stages: Sequence[Stage], seeds: Sequence[int]) -> Scripted:
    """One schedule under several seeds."""
    starts = [Start(stages[0].values, seed) for seed in seeds]
    script = {stage.step: Decision(changes=dict.fromkeys(range(len(seeds)), stage.values)) for stage in stages[1:]}
    return Scripted(problem, starts, script)


def replay(
    problem: Problem, events: Sequence[Event], record: Mapping[str, Any], objective: Objective, make_cohort: MakeCohort
) -> dict[str, Any]:
    """Train the schedule that led to a run's best evaluation from scratch, up to there, and return the record."""
    method, number = retraced(problem, winning_line(events, record), record["best_step"])
    search = Search("replay", "", method, problem, objective, make_cohort)
    with tempfile.TemporaryDirectory() as folder:
        return search.run(RunDirectory(Path(folder)), "replay")[number]


def differences(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, float]:
    """How far each number of a replayed run is from the recorded one, relative to the larger of it and 1.

    Numbers are the objectives and all metrics on validation and test data, by name; infinite where only one is there.
    """
    return {name: _apart(value, dict(_numbers(again)).get(name)) for name, value in _numbers(recorded)}


def _numbers(record: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    found = list(record["objective"].items())
    for split in ("validation", "metrics"):
        prefix = "validation" if split == "validation" else "test"
        for task, metrics in record[split].items():
            found += [(f"{prefix}/{task}/{name}", value) for name, value in metrics.items()]
    return found


def _apart(recorded: float | None, again: float | None) -> float:
    if recorded is None or again is None:
        return 0.0 if _absent(recorded) and _absent(again) else math.inf
    return abs(recorded - again) / max(1.0, abs(recorded)) if math.isfinite(again) else math.inf


def _absent(value: float | None) -> bool:
    return value is None or not math.isfinite(value)
