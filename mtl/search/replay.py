"""Trains a schedule again: that of a finished search, from scratch, or a tuned one under fresh seeds."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from mtl.files.lineage import Event, Stage, source_steps, winning_line
from mtl.search.cohort import MakeCohort
from mtl.search.methods import Decision, Exploit, Method, MethodOptions, Problem, Report, Start
from mtl.search.objective import Objective
from mtl.search.rerun import Rerun
from mtl.search.search import Search
from mtl.search.shards.inline import InlineHosts
from mtl.study.rundir import RunDirectory

_ULP = 2.0**-23  # relative step from a number in float32 to the next, at most


class Scripted(Method):
    """A method whose decisions are known: each is taken a given number of steps after the first run began."""

    name: ClassVar[str] = "replay"
    about: ClassVar[str] = "a schedule that is known beforehand"
    forgets: ClassVar[bool] = True  # what a run was before is no part of the schedule

    def __init__(self, problem: Problem, starts: Sequence[Start], script: Mapping[int, Decision]) -> None:
        later = [start for decision in script.values() for start in decision.start]
        super().__init__(problem, MethodOptions(members=len(starts) + len(later)))
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
            script[time] = replace(script.get(time, Decision()), start=some)
    script[runs[-1][0] + until] = Decision(stop=frozenset(range(len(order))))
    return Scripted(problem, starts[0], script), number[runs[-1]]


def _begun(stages: Sequence[Stage]) -> list[int]:
    """When the run of each stage began, by a clock that all share and that shows 0 when the first did."""
    begun = [0]
    for after in reversed(stages[1:]):
        begun.append(begun[-1] + after.step - source_steps(after))
    return [time - min(begun) for time in reversed(begun)]


def repeated(problem: Problem, stages: Sequence[Stage], seeds: Sequence[int]) -> Scripted:
    """One schedule under several seeds."""
    starts = [Start(stages[0].values, seed) for seed in seeds]
    script = {stage.step: Decision(changes=dict.fromkeys(range(len(seeds)), stage.values)) for stage in stages[1:]}
    return Scripted(problem, starts, script)


def retrace(
    problem: Problem,
    events: Sequence[Event],
    record: Mapping[str, Any],
    objective: Objective,
    make_cohort: MakeCohort,
    *,
    lr: float,
    ulps: int = 0,
) -> dict[str, Any]:
    """Train the schedule that led to a run's best evaluation from scratch, up to there, and return the record.

    It is equal to the recorded one but for rounding, because the runs that it descends from are trained without the
    others.

    Args:
        problem: of the search.
        events: of the search.
        record: of the run.
        objective: of the search.
        make_cohort: trains.
        lr: learning rate of runs whose values have none.
        ulps: by how many of its last digits each learning rate is changed, in float32, so that every step is rounded
            otherwise. Other members beside these would not do: a program of some more rounds as it did.
    """
    stages = winning_line(events, record)
    if ulps:
        factor = 1 + ulps * _ULP
        rates = [stage.values.get("lr", lr) * factor for stage in stages]
        stages = [
            replace(stage, values={**stage.values, "lr": rate}) for stage, rate in zip(stages, rates, strict=True)
        ]
    method, number = retraced(problem, stages, record["best_step"])
    return _carried_out(Search("replay", "", method, problem, objective, make_cohort), number)


def rerun(
    problem: Problem,
    part: Rerun,
    number: int,
    objective: Objective,
    make_cohort: MakeCohort,
    curves: Mapping[int, Mapping[str, Sequence[Any]]] | None = None,
) -> dict[str, Any]:
    """Carry out the part of a search that a run depends on again, and return the record of that run.

    On the same machine and software it equals the recorded one bit for bit: all programs have the same members.

    Args:
        problem: of the search.
        part: of the search.
        number: of the run.
        objective: of the search.
        make_cohort: makes the cohort of one process.
        curves: of all runs, of a search whose shards did not wait for each other.
    """
    method = part.method(problem, asynchronous=curves is not None)
    if part.shards is not None:
        hosts = InlineHosts(make_cohort, part.shards, part.arrivals(curves) if curves is not None else ())
        sharded: MakeCohort = partial(hosts.cohort, tell=lambda _text: None)
        make_cohort = sharded
    search = Search("replay", "", method, problem, objective, make_cohort)
    return _carried_out(search, part.runs.index(number))


def _carried_out(search: Search, number: int) -> dict[str, Any]:
    """The record of one run of a search; others that it ends with it may have none."""
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder))
        for _ in search.segments(directory, "replay"):
            pass
        return next(record for record in directory.records() if record["trial"] == number)


def rounding(
    recorded: Mapping[str, Any], again: Mapping[str, Any], alone: Sequence[Mapping[str, Any]], least: float
) -> tuple[dict[str, float], dict[str, float]]:
    """How far the nearest replay is from what was recorded, and how far rounding alone may lead.

    Args:
        recorded: the record of a run.
        again: that of a replay.
        alone: those of `retrace`, each rounded otherwise.
        least: what is always allowed.

    Returns:
        By name as in `differences`: the distance of the nearest replay, and what is allowed: what was always, and three
        times how far those of `alone` are from each other.
    """
    apart = [differences(recorded, each) for each in (again, *alone)]
    between = [differences(one, other) for one, other in itertools.combinations(alone, 2)]
    nearest = {name: min(each[name] for each in apart) for name in apart[0]}
    return nearest, {name: least + 3 * max(each.get(name, 0.0) for each in between) for name in nearest}


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
