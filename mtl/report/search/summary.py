"""The numbers of a search: summary.json, made from its files alone and without a clock in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.files.lineage import Event, Stage, damaged_events, read_events, winner, winning_line
from mtl.files.records import named_lines
from mtl.report.again import again
from mtl.report.files import json_values
from mtl.report.learned import add_learned
from mtl.report.read import RecordedRun, read_config, read_runs
from mtl.stats.importance import importances
from mtl.stats.pareto import hypervolume, pareto_front, worst_corner

if TYPE_CHECKING:
    from mtl.report.search.found import FoundLoss


@dataclass(frozen=True)
class SearchRun:
    """Everything that a search left.

    Attributes:
        config: its config.yaml.
        runs: its finished runs, in order of their numbers.
        events: its schedule.
        best: the record of the winner; None where no run was trained to its end.
        stages: the part of the schedule that led to the winner.
        unreadable: remarks on lines and files that could not be read.
    """

    config: Mapping[str, Any]
    runs: Sequence[RecordedRun]
    events: Sequence[Event]
    best: Mapping[str, Any] | None
    stages: Sequence[Stage]
    unreadable: Sequence[str] = ()

    @property
    def objective(self) -> dict[str, bool]:
        """Its objectives and whether higher is better."""
        return dict(self.config["search"]["objective"])

    @property
    def winner(self) -> RecordedRun | None:
        """The run with the record `best`."""
        return next((run for run in self.runs if run.record is self.best), None)

    @property
    def exploits(self) -> list[Event]:
        """The events in which a run took over another."""
        return [event for event in self.events if event.source is not None]


def read_search(directory: Path) -> SearchRun:
    """Read the directory of a search.

    Raises:
        ValueError: it has no readable config.yaml, or no finished run.
    """
    config = read_config(directory)
    every, unreadable = read_runs(directory)
    runs = [run for run in every if run.record["phase"] == "search"]
    if not runs:
        raise ValueError(f"no finished run in {str(directory)!r}")
    runs.sort(key=lambda run: run.record["trial"])
    events = read_events(directory / "schedule.jsonl", "search")
    best = winner([run.record for run in runs], config["search"]["objective"])
    stages = []
    if lines := damaged_events(directory / "schedule.jsonl"):
        named = named_lines(Path(directory.resolve().name) / "schedule.jsonl", lines)
        unreadable.append(f"No event could be read in {named}: left out.")
    if best is not None:
        try:
            stages = winning_line(events, best)
        except ValueError as error:
            unreadable.append(f"How the winner came about is not known: {error}.")
    return SearchRun(config, runs, events, best, stages, unreadable)


def summarize_search(search: SearchRun) -> dict[str, Any]:
    """Everything that summary.json holds."""
    records, about = [run.record for run in search.runs], search.config["search"]
    best = search.best
    summary = {
        "command": "search",
        "benchmark": search.config["benchmark"],
        "method": about["method"],
        "objective": search.objective,
        "space": about["space"],
        "strategies": search.config["strategies"],
        "seed": search.config["seeds"][0],
        **counted(search),
        "missing": max(0, about["trials"] - len(records)),
        "proposals": _proposals(records),
        "replaced_nonfinite": sum(event.scores.get("target") is None for event in search.exploits),
        "schedule": [
            {
                "step": stage.step,
                "source_step": stage.source_step,
                "trial": stage.trial,
                "seed": stage.seed,
                "hyperparameters": stage.values,
            }
            for stage in search.stages
        ],
        "again": again(search.config, search.winner, search.runs),
        "losses": {task: each.described for task, each in found_in(search).items()},
        "skill": _skill(best, records, search.objective),
        **_importance(search),
        **(_front(records, search.objective) if len(search.objective) > 1 else {}),
    }
    return {key: json_values(value) for key, value in summary.items()}


def counted(search: SearchRun) -> dict[str, Any]:
    """How many runs there were and how they ended, what they cost, and the best of them."""
    statuses, best = Counter(run.status for run in search.runs), search.best
    return {
        "runs": len(search.runs),
        **{status: statuses[status] for status in ("done", "stopped", "diverged")},
        "budget": {key: round(sum(run.cost(key) or 0 for run in search.runs)) for key in _COSTS},
        "exploits": len(search.exploits),
        "best": None if best is None else {key: best[key] for key in _SHOWN},
    }


def found_in(search: SearchRun) -> dict[str, FoundLoss]:
    """The losses of the winner, by task, that were searched or learned."""
    if search.best is None:
        return {}
    found: dict[str, FoundLoss] = {}
    tasks = search.config["tasks"]
    if any(name.startswith("loss.") for name in search.config["search"]["space"]):
        from mtl.report.search.found import found_losses  # brings torch, which reports without it do not need

        found = found_losses(tasks, search.best["hyperparameters"])
    if (winner := search.winner) is not None:
        for task, about in tasks.items():
            add_learned(found, winner, task, about)
    return found


_COSTS = ("steps", "forwards", "backwards")
_SHOWN = (
    *("run", "trial", "strategy", "hyperparameters", "seed", "objective", "validation", "metrics", "best_step"),
    "status",
)


def _skill(
    best: Mapping[str, Any] | None, records: Sequence[Mapping[str, Any]], objective: Mapping[str, bool]
) -> float | None:
    """The mean skill of the winner on validation data, or the best on the front; a constant prediction has 0."""
    if best is None:
        return None
    found = [best]
    if len(objective) > 1:
        found = [records[index] for index in pareto_front([signed(record, objective) for record in records])]
    skills = [record["selection"] for record in found if record.get("selection") is not None]
    return max(skills, default=None)


def _importance(search: SearchRun) -> dict[str, Any]:
    """How important each parameter was, and after how many steps if not at the end.

    Where runs took over others their ends descend from each other. Independent are only the values that they began with
    and their scores when the first of them was taken over.
    """
    records = [run.record for run in search.runs]
    if not search.exploits:
        return {"importance": importances(records, search.objective), "importance_at": None}
    first = min(event.step for event in search.exploits)
    begun = {event.target: event.after for event in search.events if event.source is None}
    name = next(iter(search.objective))
    independent = []
    for run in search.runs:
        history, number = run.history() or {}, run.record["trial"]
        scores = dict(zip(history.get("search_step", ()), history.get("search_scores", ()), strict=False))
        if number in begun and scores.get(first, [None])[0] is not None:
            independent.append(
                {"status": "done", "hyperparameters": begun[number], "objective": {name: scores[first][0]}}
            )
    return {"importance": importances(independent, search.objective), "importance_at": first}


def _proposals(records: Sequence[Mapping[str, Any]]) -> dict[str, int] | None:
    """How many runs a method proposed, and how many of them by what it knew of the scores of others."""
    informed = [record["informed"] for record in records if record.get("informed") is not None]
    return {"all": len(informed), "informed": sum(informed)} if informed else None


def _front(records: Sequence[Mapping[str, Any]], objective: Mapping[str, bool]) -> dict[str, Any]:
    points = [signed(record, objective) for record in records]
    corner = worst_corner(points)
    return {
        "front": [
            {key: records[index][key] for key in ("run", "strategy", "hyperparameters", "objective")}
            for index in pareto_front(points)
        ],
        "hypervolume": None if corner is None else hypervolume(points, corner),
        "reference_point": None
        if corner is None
        else {
            name: value if higher else -value for (name, higher), value in zip(objective.items(), corner, strict=True)
        },
    }


def signed(record: Mapping[str, Any], objective: Mapping[str, bool]) -> tuple[float, ...]:
    """A run's objectives, each higher is better; -inf for what is absent."""
    found = (record["objective"].get(name) for name in objective)
    return tuple(
        -math.inf if value is None else value if higher else -value
        for value, higher in zip(found, objective.values(), strict=True)
    )
