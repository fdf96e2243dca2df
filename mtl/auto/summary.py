"""The numbers of a decision: summary.json, made from the files of its directory alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtl.auto.decide import PATH
from mtl.auto.finals import USUAL_LABEL, Finalist
from mtl.auto.path import importance_in, last_part
from mtl.auto.state import AutoState, read_state
from mtl.auto.verdict import Compared, OnHoldout, Verdict, compare
from mtl.auto.winner import in_python, recipe_for
from mtl.benchmarks import Benchmark, find_benchmark
from mtl.files.config import Config, read_config
from mtl.report.files import json_values
from mtl.report.read import RecordedRun, read_runs
from mtl.stats import mean_interval
from mtl.stats.intervals import Interval
from mtl.train.recipe import RunRecipe


@dataclass(frozen=True)
class AutoStudy:
    """What a decision has left.

    Attributes:
        config: its config.yaml.
        state: how far it is.
        race: runs of the race that have ended.
        finals: runs of the finalists.
        path: runs of points between the default and the winner.
        verdict: None before the finals are over.
        unreadable: remarks on lines and files that could not be read.
    """

    config: Config
    state: AutoState
    race: Sequence[RecordedRun]
    finals: Sequence[RecordedRun]
    path: Sequence[RecordedRun]
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

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark that config.yaml names; raises `ValueError` where it is not found any more."""
        return find_benchmark(self.config["benchmark"])

    def recipe(self, finalist: Finalist) -> RunRecipe:
        """How a finalist is trained, under a seed that no run has had, for as long as the recipe says.

        Raises:
            ValueError: the benchmark is not found, or an option of `mtl train` cannot say it; one line.
        """
        assert self.state.plan is not None
        seed = max([run.seed for run in self.finals], default=int(self.config["seeds"][0])) + 1
        steps = None if finalist.label == USUAL_LABEL else self.shortened
        return recipe_for(finalist.values, seed, self.config, self.benchmark, steps)

    @property
    def shortened(self) -> int | None:
        """Steps of the runs of the race where they speak for what was found, since there are no finals; None where they
        had the recipe's length. Finals that may decide are long enough to tell what is better in full.
        """
        plan = self.state.plan
        assert plan is not None
        return None if self.verdict is not None or plan.length >= plan.recipe else plan.length


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
    telling = state.plan is None or state.plan.telling(_steps(finals))
    compared = compare([run.record for run in finals], config["auto"]["objective"], telling=telling)
    verdict = compared if "final" in state.ended else None
    race = [run for run in runs if run.record["phase"] == "search"]
    path = [run for run in runs if run.record["phase"] == "path"]
    return AutoStudy(config, state, race, finals, path, verdict, unreadable)


def summarize_decision(study: AutoStudy) -> dict[str, Any]:
    """Everything that summary.json holds."""
    auto, state, verdict, chosen = study.config["auto"], study.state, study.verdict, study.chosen
    statuses = Counter(run.status for run in study.race)
    summary = {
        "command": "auto",
        "benchmark": study.config["benchmark"],
        "objective": auto["objective"],
        "time": {
            "limit": auto["time"],
            "elapsed": round(state.elapsed, 1),
            "ended": {part: round(at, 1) for part, at in state.ended.items()},
        },
        "plan": None if state.plan is None else state.plan.plain(),
        "final_steps": _steps(study.finals),
        "telling": state.plan is None or state.plan.telling(_steps(study.finals)),
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
        "path": _path(study),
        "importance": None if (found := importance_in(study.race)) is None else found._asdict(),
        "train": None if chosen is None or state.plan is None else _again(study, chosen),
    }
    return {key: json_values(value) for key, value in summary.items()}


def _steps(runs: Sequence[RecordedRun]) -> int:
    """That runs have made side by side; time may have ended them before those that were planned."""
    return round(max((run.cost("steps") or 0 for run in runs), default=0))


def _finalist(study: AutoStudy, compared: Compared) -> dict[str, Any]:
    found = next(each for each in study.state.finalists if each.label == compared.label)
    runs = [run for run in study.finals if run.strategy == compared.label]
    return {
        "label": compared.label,
        "trial": found.trial,
        "hyperparameters": dict(found.values),
        "train": _again(study, found),
        "runs": len(runs),
        "without_result": sum(score is None for score in compared.scores.values()),
        "picked_by": compared.picked_by,
        "steps": _steps(runs),
        "seconds": round(compared.seconds, 3),
        "holdout": {"scores": {str(seed): score for seed, score in compared.scores.items()}, **_plain(compared.mean)},
        "against_default": None
        if compared.against is None
        else {
            **_plain(compared.against.difference),
            "p_value": compared.against.p_value,
            "effect_size": compared.against.effect_size,
            "of_examples": compared.against.of_examples,
        },
        "better": compared.better,
        "doubt": compared.doubt,
        "test": _test(study, runs),
    }


def _path(study: AutoStudy) -> list[dict[str, Any]]:
    """From the default to the winner: the holdout at each point, and what its part brought, over the same seeds."""
    verdict, points = study.verdict, study.state.path
    if verdict is None or not points or PATH not in study.state.ended:
        return []
    winner = next(each for each in study.state.finalists if each.label == verdict.winner)
    usual = next(each for each in study.state.finalists if each.label == USUAL_LABEL)
    runs = {(run.strategy, run.seed): run for run in [*study.finals, *study.path]}
    seeds = sorted({run.seed for run in study.path})
    labels = [USUAL_LABEL, *(each.label for each in points), winner.label]
    if len({runs[label, seed].cost("steps") for label in labels for seed in seeds}) > 1:
        return []  # time ended some of them earlier, so that they cannot be compared
    reached = [OnHoldout({}, {}) for _ in labels]
    for label, each in zip(labels, reached, strict=True):
        for seed in seeds:
            each.add(runs[label, seed].record)
    last = last_part(usual.values, winner.values, points)
    parts = ["", *(each.label.removeprefix("+ ") for each in points), last]
    found = []
    for place, (label, part) in enumerate(zip(labels, parts, strict=True)):
        gain = None if place == 0 else reached[place].against(reached[place - 1])
        found.append(
            {
                "label": label,
                "part": part,
                "holdout": _plain(mean_interval(list(reached[place].scores.values()))),
                "gain": None if gain is None else {**_plain(gain.difference), "p_value": gain.p_value},
            }
        )
    return found


def _again(study: AutoStudy, finalist: Finalist) -> dict[str, Any]:
    """How a finalist is trained: its `words`, the `line`, the `file` for `--config`, and `python`; or why not."""
    try:
        recipe = study.recipe(finalist)
    except ValueError as error:
        return {"words": [[name, str(value)] for name, value in finalist.values.items()], "fault": str(error)}
    about = f"{finalist.label} of mtl auto {study.config['benchmark']}: mtl train --config best.yaml"
    words = [list(pair) for pair in recipe.words()]
    return {"words": words, "line": recipe.line(), "file": recipe.text(about), "python": in_python(recipe)}


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
