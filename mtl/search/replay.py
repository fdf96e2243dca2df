"""Trains a schedule again: that of a finished search, from scratch, or a tuned one under fresh seeds."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mtl.lineage import Stage
from mtl.search.cohort import MakeCohort
from mtl.search.engine import Search
from mtl.search.methods import Decision, Exploit, Method, Options, Problem, Report, Start
from mtl.search.objective import Objective
from mtl.study.rundir import RunDirectory


class Scripted(Method):
    """Runs whose changes are known beforehand, by step."""

    name: ClassVar[str] = "replay"
    about: ClassVar[str] = "a schedule that is known beforehand"

    def __init__(self, problem: Problem, starts: Sequence[Start], script: Mapping[int, Decision]) -> None:
        super().__init__(problem, Options(members=len(starts)))
        self._starts, self._script = list(starts), script

    def begin(self) -> list[Start]:
        return self._starts

    def decide(self, reports: Sequence[Report]) -> Decision:
        return Decision() if reports[0].finished else self._script.get(reports[0].step, Decision())


def retraced(problem: Problem, stages: Sequence[Stage]) -> Scripted:
    """The runs that one descends from, each with its own seed, and the exploits that lead to it; the last is run 0."""
    order = list(dict.fromkeys(stage.trial for stage in reversed(stages)))
    number = {trial: place for place, trial in enumerate(order)}
    first = {stage.trial: stage for stage in reversed(stages)}
    # A run that enters later is trained up to there under its later values, because nothing of that part survives.
    starts = [Start(first[trial].values, first[trial].seed) for trial in order]
    script = {
        stage.step: Decision([Exploit(number[stage.trial], number[before.trial], stage.values)])
        if stage.trial != before.trial
        else Decision(changes={number[stage.trial]: stage.values})
        for before, stage in itertools.pairwise(stages)
    }
    return Scripted(problem, starts, script)


def repeated(problem: Problem, stages: Sequence[Stage], seeds: Sequence[int]) -> Scripted:
    """One schedule under several seeds."""
    starts = [Start(stages[0].values, seed) for seed in seeds]
    script = {stage.step: Decision(changes=dict.fromkeys(range(len(seeds)), stage.values)) for stage in stages[1:]}
    return Scripted(problem, starts, script)


def replay(problem: Problem, stages: Sequence[Stage], objective: Objective, make_cohort: MakeCohort) -> dict[str, Any]:
    """Train a schedule from scratch and return the record of the run that it leads to."""
    search = Search("replay", "", retraced(problem, stages), problem, objective, make_cohort)
    with tempfile.TemporaryDirectory() as folder:
        return search.run(RunDirectory(Path(folder)), "replay")[0]


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
