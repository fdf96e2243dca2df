"""The numbers of a decision: summary.json, made from the files of its directory alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.auto.finals import Finalist
from mtl.auto.state import AutoState, read_state
from mtl.auto.verdict import Compared, Verdict, compare
from mtl.auto.winner import TrainRecipe, make_recipe
from mtl.files.config import Config, read_config
from mtl.report.read import RecordedRun, read_runs
from mtl.stats import mean_interval
from mtl.stats.intervals import Interval


@dataclass(frozen=True)
class AutoStudy:
    """What a decision has left.

    Attributes:
        config: its config.yaml.
        state: how far it is.
        race: runs of the race that have ended.
        finals: runs of the finalists.
        verdict: None before the finals are over.
        unreadable: remarks on lines and files that could not be read.
    """

    config: Config
    state: AutoState
    race: Sequence[RecordedRun]
    finals: Sequence[RecordedRun]
    verdict: Verdict | None
    unreadable: Sequence[str]

    @property
    def objective(self) -> tuple[str, bool]:
        """What counts, and whether higher is better."""
        return next(iter(self.config["auto"]["objective"].items()))

    @property
    def chosen(self) -> Finalist | None:
        """What is recommended: of the verdict, or before there is one the best of the race so far."""
        if self.verdict is not None:
            return next(each for each in self.state.finalists if each.label == self.verdict.chosen)
        leader = self.state.leader
        return None if leader is None else Finalist(leader.run, leader.values, leader.trial)

    def recipe(self, finalist: Finalist) -> TrainRecipe:
        """How a finalist is trained."""
        assert self.state.plan is not None
        return make_recipe(finalist.values, self.config, self.state.plan)


def read_decision(directory: Path) -> AutoStudy:
    """Read the directory of a decision.

    Raises:
        ValueError: it has no readable config.yaml, or is not one of `mtl auto`.
    """
    config = read_config(directory)
    if "auto" not in config:
        raise ValueError(f"{str(directory)!r} is not the directory of `mtl auto`")
    state, (runs, unreadable) = read_state(directory), read_runs(directory)
    finals = [run for run in runs if run.record["phase"] == "final"]
    verdict = compare([run.record for run in finals]) if "final" in state.ended else None
    race = [run for run in runs if run.record["phase"] == "search"]
    return AutoStudy(config, state, race, finals, verdict, unreadable)


def summarize_decision(study: AutoStudy) -> dict[str, Any]:
    """Everything that summary.json holds."""
    auto, state, verdict, chosen = study.config["auto"], study.state, study.verdict, study.chosen
    statuses = Counter(run.status for run in study.race)
    recipe = None if chosen is None or state.plan is None else study.recipe(chosen)
    summary = {
        "command": "auto",
        "benchmark": study.config["benchmark"],
        "objective": auto["objective"],
        "time": {"limit": auto["time"], "elapsed": round(state.elapsed, 1), **_parts(study)},
        "plan": None if state.plan is None else state.plan.plain(),
        "holdout": auto["holdout"],
        "space": auto["space"],
        "race": {
            "runs": len(study.race),
            **{status: statuses[status] for status in ("done", "stopped", "diverged", "failed")},
            "steps": round(sum(run.cost("steps") or 0 for run in study.race)),
            "best": None if state.leader is None else dict(vars(state.leader)),
        },
        "seeds": sorted({run.seed for run in study.finals}),
        "finalists": [] if verdict is None else [_finalist(study, each) for each in verdict.compared],
        "finals_over": "final" in state.ended,
        "winner": None if verdict is None else verdict.winner,
        "rivals": [] if verdict is None else list(verdict.rivals),
        "chosen": None if chosen is None else chosen.label,
        "train": None
        if recipe is None
        else {"options": recipe.options, "command": recipe.command, "python": recipe.python},
    }
    return {key: _json(value) for key, value in summary.items()}


def _parts(study: AutoStudy) -> dict[str, float]:
    """Seconds of race and finals, as far as they are known."""
    race = study.state.pace[-1][0] if study.state.pace else 0.0
    return {"race_ended": round(race, 1)}


def _finalist(study: AutoStudy, compared: Compared) -> dict[str, Any]:
    found = next(each for each in study.state.finalists if each.label == compared.label)
    runs = [run for run in study.finals if run.strategy == compared.label]
    recipe = study.recipe(found)
    return {
        "label": compared.label,
        "trial": found.trial,
        "hyperparameters": dict(found.values),
        "train": {"options": recipe.options, "command": recipe.command},
        "runs": len(runs),
        "without_result": sum(score is None for score in compared.scores.values()),
        "steps": max((run.cost("steps") or 0 for run in runs), default=0),
        "seconds": round(compared.seconds, 3),
        "holdout": {"scores": {str(seed): score for seed, score in compared.scores.items()}, **_plain(compared.mean)},
        "against_default": None
        if compared.against is None
        else {
            **_plain(compared.against.difference),
            "p_value": compared.against.p_value,
            "p_adjusted": compared.p_value,
            "effect_size": compared.against.effect_size,
        },
        "better": compared.better,
        "test": _test(study, runs),
    }


def _test(study: AutoStudy, runs: Sequence[RecordedRun]) -> dict[str, dict[str, Any]]:
    """Means over seeds of every metric on the test split."""
    return {
        task: {
            metric: {
                **_plain(mean_interval([run.metrics.get(task, {}).get(metric) for run in runs])),
                "higher_is_better": about["higher_is_better"],
            }
            for metric, about in entry["metrics"].items()
        }
        for task, entry in study.config["tasks"].items()
    }


def _plain(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value
