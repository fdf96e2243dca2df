"""A search as W&B runs: one for the whole of it and one for each member."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mtl.files.lineage import Event, read_events, winner
from mtl.search.search import Search
from mtl.search.trial import Trial
from mtl.study.plan import RunPlan
from mtl.study.rundir import RunDirectory
from mtl.tracking.client import Tracker
from mtl.tracking.study import end_run, figures

_LINEAGE = ("step", "target", "source", "kind", "changed", "target_score", "source_score")


class SearchTracker:
    """Logs the searches of a study, one after another: a W&B run for each member, and one for the whole.

    A member's points are logged at its own step; those of the whole at the number of optimizer steps of all members.
    What a tuned strategy, or a finalist of `mtl auto`, does on fresh seeds is logged like the runs of a comparison.

    Args:
        tracker: logs.
        directory: of the study.
        benchmark: name of the benchmark.
    """

    def __init__(self, tracker: Tracker, directory: RunDirectory, benchmark: str) -> None:
        self._tracker, self._directory, self._benchmark = tracker, directory, benchmark
        self._name = ""  # of the search's run
        self._phase = ""
        self._members: dict[int, str] = {}
        self._ended: dict[int, dict[str, Any]] = {}

    def segment(self, search: Search) -> None:
        """Log a point of each member, and one of the whole."""
        first = (name := _name(_strategies(search), search.problem.seed), search.phase) != (self._name, self._phase)
        if first:
            self.close()
            self._name, self._phase, self._members = name, search.phase, {}
            if search.phase == "search":
                self._begin(_strategies(search), search.method.name, search.problem.seed)
        # The values that a member began with are only in the schedule once it has taken over others.
        events = read_events(self._directory.schedule_path, search.name) if first else []
        initial = {event.target: event.after for event in events if event.source is None}
        for trial in _concerned(search):
            if trial.number not in self._members:
                self._begin_member(search, trial, initial.get(trial.number, trial.values))
            if trial.number in search.evaluations:
                self._tracker.row(self._members[trial.number], trial.step, _point(search, trial))
        for number, record in self._ended.items():
            if search.trials[number].status:  # otherwise it ended in a segment that was lost, and is trained again
                end_run(self._tracker, self._members.pop(number), record)
        self._ended = {}
        if search.phase == "search":
            self._tracker.row(self._name, search.totals.steps, _overall(search))
            if not search.alive:
                self._conclude(search.name, search.objective.higher_is_better())

    def trial(self, search: Search, record: dict[str, Any]) -> None:  # noqa: ARG002
        """A member ended; its last point is still to come."""
        self._ended[record["trial"]] = record

    def report(self, config: Mapping[str, Any]) -> None:
        """Log the figures of the report of `mtl search`.

        Args:
            config: of the study, as recorded.
        """
        if not self._name:  # the search was over before this process began; perhaps its report was logged, too
            self._name, self._phase = _name(config["strategies"], config["seeds"][0]), "search"
            self._begin(config["strategies"], config["search"]["method"], config["seeds"][0], only_open=True)
            self._conclude("search", config["search"]["objective"])
        spent = _spent(_records(self._directory, "search"))
        self._tracker.images(self._name, spent, figures(self._directory.path))

    def close(self) -> None:
        """Close the run of a search that is over."""
        if self._phase == "search" and not self._members:
            self._tracker.end(self._name)
        self._name = self._phase = ""

    def _begin(self, strategies: Sequence[str], method: str, seed: int, *, only_open: bool = False) -> None:
        self._tracker.begin(
            self._name,
            job_type="search",
            tags=[self._benchmark, *strategies, method],
            config={"method": method, "seed": seed},
            only_open=only_open,
        )

    def _begin_member(self, search: Search, trial: Trial, values: Mapping[str, Any]) -> None:
        strategy = search.counts_for(trial.number, values)
        name, job_type = f"{self._name}-{trial.number:04d}", "member"
        if search.phase != "search":
            name = RunPlan(search.phase, strategy, trial.seed, search.task).name
            job_type = search.phase.replace("_", "-")
        self._members[trial.number] = name
        config = {**values, "seed": trial.seed, "trial": trial.number}
        self._tracker.begin(name, job_type=job_type, tags=[self._benchmark, strategy], config=config)
        if len(trial.curve) < 2:
            self._tracker.row(name, 0, _hyperparameters(values))

    def _conclude(self, search: str, objective: Mapping[str, bool]) -> None:
        """Log how the members came about and what was found, from the files of the study."""
        records = _records(self._directory, search)
        events = read_events(self._directory.schedule_path, search)
        spent = _spent(records)
        self._tracker.table(self._name, spent, "lineage", _LINEAGE, [_lineage_row(event) for event in events])
        statuses = Counter(record["status"] for record in records)
        exploits = [event for event in events if event.source is not None]
        summary: dict[str, Any] = {
            "members": len(records),
            "steps": spent,
            "exploits": len(exploits),
            "failures": statuses["diverged"] + statuses["failed"],
            "replaced_nonfinite": sum(_broken(event) for event in exploits),
            "stopped": statuses["stopped"],
        }
        best = winner(records, objective)
        if best is not None:
            summary |= {f"objective/{name}": value for name, value in best["objective"].items()}
            summary |= {f"best/{name}": value for name, value in best["hyperparameters"].items()}
            summary |= {"best/run": best["run"], "best/strategy": best["strategy"]}
            tests = best["metrics"].items()
            summary |= {f"test/{task}/{key}": value for task, values in tests for key, value in values.items()}
        self._tracker.summary(self._name, summary)


def _name(strategies: Sequence[str], seed: int) -> str:
    return RunPlan("search", " ".join(strategies), seed).name


def _strategies(search: Search) -> list[str]:
    if search.task is not None:
        return [f"single task {search.task}"]
    return [search.label] if search.label else search.problem.space.dimensions["strategy"].parameter.grid(1)


def _concerned(search: Search) -> list[Trial]:
    """The members that were trained in the last segment, and those that it made begin."""
    alive = {trial.number for trial in search.alive}
    return [trial for trial in search.trials if trial.number in search.evaluations or trial.number in alive]


def _point(search: Search, trial: Trial) -> dict[str, float]:
    """What is known of a member after a segment, and the values with which it goes on."""
    evaluation, (*_, scores) = search.evaluations[trial.number], trial.curve[-1]
    row = {f"validation/{task}/{key}": x for task, metrics in evaluation.metrics.items() for key, x in metrics.items()}
    row |= {f"validation/{name}": x for name, x in search.objective.natural(scores).items() if x is not None}
    if math.isfinite(evaluation.selection):
        row["validation/selection"] = evaluation.selection
    return {**row, **evaluation.curves, **_hyperparameters(trial.values)}


def _overall(search: Search) -> dict[str, float]:
    totals = search.totals
    row = {
        "members/alive": float(len(search.alive)),
        "members/begun": float(len(search.trials)),
        "exploits": float(totals.exploits),
        "replaced_nonfinite": float(totals.replaced_nonfinite),
    }
    names = list(search.objective.higher_is_better())
    points = [search.trials[number].curve[-1][2] for number in search.evaluations]
    for place, name in enumerate(names):
        finite = [scores[place] for scores in points if math.isfinite(scores[place])]
        if finite:
            mean = (sum(finite) / len(finite),) * len(names)
            row[f"objective/{name}/mean"] = search.objective.natural(mean)[name] or 0.0
    if search.best is not None:
        _, best = search.best
        natural = search.objective.natural(best.scores)
        row |= {f"objective/{name}/best": x for name, x in natural.items() if x is not None}
        # Not `best/`: W&B takes the last row into the summary, over what is there by the same key.
        row |= {f"best_so_far/{name.partition('/')[2]}": x for name, x in _hyperparameters(best.values).items()}
    return row


def _hyperparameters(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the values; weights on the simplex one by one."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        several = isinstance(value, list | tuple)
        flat |= {f"{name}[{place}]": item for place, item in enumerate(value)} if several else {name: value}
    return {
        f"hyperparameters/{name}": value
        for name, value in flat.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _lineage_row(event: Event) -> list[Any]:
    kind = "begin" if event.source is None else "replace" if _broken(event) else "exploit"
    before = event.before or {}
    changed = [
        f"{name}: {_shown(before[name])} → {_shown(value)}" if name in before else f"{name}: {_shown(value)}"
        for name, value in event.after.items()
        if name not in before or before[name] != value
    ]
    scores = [event.scores.get("target"), event.scores.get("source")]
    return [event.step, event.target, event.source, kind, ", ".join(changed), *scores]


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _broken(event: Event) -> bool:
    """Whether the run that took over another was not finite any more."""
    return event.source is not None and event.scores.get("target") is None


def _records(directory: RunDirectory, search: str) -> list[dict[str, Any]]:
    return [record for record in directory.records() if record.get("search") == search]


def _spent(records: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(record["cost"].get("steps", 0)) for record in records)
