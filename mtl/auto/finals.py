"""Runs of given points under several seeds, side by side, so that they can be compared whenever it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from mtl.auto.holdout import HeldOut
from mtl.benchmarks.benchmark import Examples
from mtl.benchmarks.losses import fitted_tasks
from mtl.files.lineage import tupled
from mtl.search.cohort import MakeCohort
from mtl.search.methods import Decision, Method, MethodOptions, Problem, Report, Start
from mtl.search.objective import Objective
from mtl.search.search import Search
from mtl.search.space import Values
from mtl.search.trial import Trial
from mtl.study.setup import StudySetup
from mtl.train import Member, Result
from mtl.train.evaluate import measure_model, selection
from mtl.train.model import build_model
from mtl.train.outcome import DONE
from mtl.train.references import references
from mtl.train.surroundings import threads
from mtl.train.tally import Metrics

USUAL_LABEL = "default"
_TENTH, _OF_EACH = 10, 3  # the best of a race, among which unlike ones are looked for: a tenth, or three for a finalist


@dataclass(frozen=True)
class Finalist:
    """A point that is trained under several seeds.

    Attributes:
        label: its name in tables and files.
        values: by flat names, as of a search.
        trial: number of the run of the race that it was found in.
    """

    label: str
    values: Values
    trial: int | None = None


class SideBySide(Method):
    """Trains given runs to their end, or until time is over; all have made equally many steps at any moment.

    Args:
        problem: of the search.
        starts: the runs.
        over: whether the time is over; asked after each segment.
    """

    name: ClassVar[str] = "side-by-side"
    about: ClassVar[str] = "given runs, all to the same step"

    def __init__(self, problem: Problem, starts: Sequence[Start], over: Callable[[], bool]) -> None:
        super().__init__(problem, MethodOptions(members=max(1, len(starts))))
        self._starts, self._over = list(starts), over

    def begin(self) -> list[Start]:
        return self._starts

    def decide(self, reports: Sequence[Report]) -> Decision:
        return Decision(stop=frozenset(report.trial for report in reports)) if self._over() else Decision()


class Finals(Search):
    """Trains finalists under fresh seeds; the same seeds for all.

    A record has the metrics on the test split as those of other studies, and beside them what was reached on the
    holdout, by which finalists are compared. A run that time has ended is `done`: all were ended at the same step.

    Args:
        name: of the search.
        finalists: to be trained.
        seeds: of each.
        problem: their length and interval.
        objective: what counts.
        setting: of their runs, with the splits of `held.of_finalists`.
        held: the data.
        make_cohort: trains.
        over: whether the time is over.
        phase: as recorded.
    """

    def __init__(
        self,
        name: str,
        finalists: Sequence[Finalist],
        seeds: Sequence[int],
        problem: Problem,
        objective: Objective,
        setting: StudySetup,
        held: HeldOut,
        make_cohort: MakeCohort,
        over: Callable[[], bool],
        phase: str = "final",
    ) -> None:
        starts = [Start(dict(each.values), seed) for each in finalists for seed in seeds]
        method = SideBySide(problem, starts, over)
        super().__init__(name, "", method, problem, objective, make_cohort, phase=phase, tell=setting.tell)
        self._labels = [each.label for each in finalists for _ in seeds]
        self._setting, self._held = setting, held
        self._reference, _ = references(setting.benchmark.tasks, held.train, held.holdout)

    def record(self, trial: Trial, result: Result, benchmark: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is written of a run; a run's metrics here are on the holdout until the record is made."""
        record, history = super().record(trial, result, benchmark)
        status = DONE if record["status"] == "stopped" else record["status"]
        record.pop("metrics_without", None)  # of the holdout, as its metrics are until here
        record |= {"strategy": self._labels[trial.number], "status": status, "holdout": result.metrics, "metrics": {}}
        record["holdout_score"], record["holdout_without"] = None, None
        if status == DONE:
            record["holdout_score"] = self._score(result.metrics)
            record["holdout_without"] = [self._score(metrics) for metrics in result.without]
            record["metrics"] = measured(self._setting, trial.member, self.weights(trial.number), self._held.test)
        return record, history

    def counts_for(self, number: int, values: Mapping[str, Any]) -> str:  # noqa: ARG002
        """The finalist that a run is: several may have one strategy."""
        return self._labels[number]

    def _score(self, metrics: Metrics) -> float | None:
        """The objective on the holdout, higher is better; None where it is not finite."""
        skill = selection(self._setting.benchmark.tasks, metrics, self._reference)
        (score,) = self.objective.scores(metrics, skill)
        return score if math.isfinite(score) else None


def measured(setting: StudySetup, member: Member, weights: Mapping[str, Any], split: Examples) -> Metrics:
    """The metrics of trained parameters on a split.

    Args:
        setting: of the run.
        member: whose model it is.
        weights: its parameters and buffers.
        split: to be measured on.
    """
    settings = member.resolved(setting.settings)
    tasks = fitted_tasks(member.tasks(setting.benchmark.tasks), setting.splits.train)
    with torch.random.fork_rng(), threads(settings.threads):
        model = build_model(setting.benchmark, tasks, setting.splits.train.first(2), settings)
        model.load_state_dict(dict(weights))
        return measure_model(model.to(setting.device), tasks, split.to(setting.device)).metrics


def choose_finalists(
    records: Sequence[Mapping[str, Any]], objective: Mapping[str, bool], count: int, usual: Values
) -> list[Finalist]:
    """The best points of the race after the default, of unlike structure where the best ones are.

    What leads a race was lucky with its examples and its seed, and so were the points beside it that were made from it.
    So of the best tenth the first of each structure come before others of the same; and of points that are the same, or
    came to exactly the same, as they differ in what has no effect, there is one. Runs that were stopped early take part
    with the best that they had reached: with more steps they do better yet.

    Args:
        records: of the runs of the race.
        objective: by name, whether higher is better.
        count: finalists beside the default.
        usual: the values of the default.
    """
    name, higher = next(iter(objective.items()))
    sign = 1.0 if higher else -1.0
    able = [
        record
        for record in records
        if record["status"] in ("done", "stopped")
        and (record["objective"] or {}).get(name) is not None
        and dict(record["hyperparameters"]) != dict(usual)
    ]
    able.sort(key=lambda record: (-sign * record["objective"][name], record["trial"]))
    few = max(_OF_EACH * count, len(able) // _TENTH)
    firsts: dict[str, Mapping[str, Any]] = {}
    for record in able[:few]:
        firsts.setdefault(_structure(record), record)
    others = [record for record in able if firsts.get(_structure(record)) is not record]
    found, reached, points = [Finalist(USUAL_LABEL, usual)], set[float](), set[str]()
    for record in [*firsts.values(), *others]:
        # A race tries a point again, under another seed, where its space has few.
        point = repr(sorted(record["hyperparameters"].items()))
        if len(found) <= count and record["objective"][name] not in reached and point not in points:
            reached.add(record["objective"][name])
            points.add(point)
            found.append(Finalist(f"found-{len(found)}", tupled(record["hyperparameters"]), record["trial"]))
    return found


def _structure(record: Mapping[str, Any]) -> str:
    """The choices of a point, without its numbers."""
    return repr(sorted((name, value) for name, value in record["hyperparameters"].items() if isinstance(value, str)))
