"""`mtl replay`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.cli.errors import BadInput
from mtl.cli.options import ReplayOptions
from mtl.cli.shared import load_setting, tell
from mtl.cli.terminal import console
from mtl.files.config import Config, read_config
from mtl.files.lineage import Event, read_events, winner, winning_line
from mtl.search.cohort import MakeCohort
from mtl.search.methods import Problem
from mtl.search.objective import Objective
from mtl.search.plan import baseline_metrics, cohort_maker, run_length
from mtl.search.replay import differences, rerun, retrace, rounding
from mtl.search.rerun import Rerun
from mtl.search.space import Space
from mtl.study.rundir import RunDirectory

_CLOSE = 1e-5  # relative; how near a replay has to come, whatever rounding does
_ROUNDINGS = (0, 1, -1)  # ways of rounding that are tried: last digits by which learning rates are changed


@dataclasses.dataclass(frozen=True)
class _Finished:
    """A finished search, and what it takes to carry it out again."""

    directory: RunDirectory
    problem: Problem
    objective: Objective
    make_cohort: MakeCohort
    events: Sequence[Event]
    records: Mapping[int, Mapping[str, Any]]
    best: Mapping[str, Any]
    asynchronous: bool
    lr: float

    def again(self) -> tuple[Mapping[str, Any], int]:
        """The record of the winner, trained again with all that was trained beside it, and how many those are.

        Raises:
            ValueError: the files do not say what was trained beside it.
        """
        part = Rerun(self.events, self.records, self.best["trial"])
        curves = {run: self._curves(run) for run in part.runs} if self.asynchronous else None
        found = rerun(self.problem, part, self.best["trial"], self.objective, self.make_cohort, curves)
        return found, len(part.runs) - 1

    def alone(self, ulps: int = 0) -> Mapping[str, Any]:
        """The record of the winner, trained again with what it descends from, and rounded otherwise by each `ulps`."""
        return retrace(self.problem, self.events, self.best, self.objective, self.make_cohort, lr=self.lr, ulps=ulps)

    def _curves(self, run: int) -> Mapping[str, Any]:
        path = self.directory.path / str(self.records[run]["history"])
        try:
            curves: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read") from error
        return curves


def replay(options: ReplayOptions) -> int:
    """Train the winner of a search again and compare."""
    try:
        finished = _read(options.directory, options.device)
    except ValueError as error:
        raise BadInput(str(error)) from error
    best = finished.best
    stages = winning_line(finished.events, best)
    say: Callable[[str], None] = (lambda _text: None) if options.quiet else _print
    say(
        f"{best['run']}: {len(stages)} stage{'s' * (len(stages) > 1)} of "
        f"{len({stage.trial for stage in stages})} run{'s' * (len({stage.trial for stage in stages}) > 1)}, "
        f"best after {best['best_step']} steps"
    )
    try:
        again, others = finished.again()
        say(f"trained again with the {others} run{'s' * (others != 1)} beside it, decision by decision")
    except ValueError as error:
        again = finished.alone()
        say(f"it cannot be trained again as it was, to the last bit: {error}")
    for name, value in best["objective"].items():
        say(f"{name}: recorded {_shown(value)}, replayed {_shown(again['objective'][name])}")
    apart = differences(best, again)
    worst = max(apart, key=lambda name: apart[name])
    if apart[worst] == 0:
        _print(f"The replay reaches every recorded metric, bit for bit ({len(apart)} numbers).")
        return 0
    if apart[worst] <= _CLOSE:
        _print(f"The replay reaches every recorded metric (largest difference {apart[worst]:.1e}).")
        return 0
    return _judge(finished, again)


def _judge(finished: _Finished, again: Mapping[str, Any]) -> int:
    """Say whether rounding can explain how far a replay is from what was recorded."""
    alone = [finished.alone(ulps) for ulps in _ROUNDINGS]
    nearest, allowed = rounding(finished.best, again, alone, _CLOSE)
    worst = max(nearest, key=lambda name: nearest[name] / allowed[name])
    found = f"{worst} by {nearest[worst]:.2g}, and rounding alone leads to {allowed[worst]:.2g}"
    if nearest[worst] > allowed[worst]:
        print(f"mtl: the replay differs from what was recorded: {found}", file=sys.stderr)
        return 1
    _print(
        "The replay reaches every recorded metric but for rounding, which is done otherwise on another machine or with "
        f"another version of PyTorch: it differs in {found}."
    )
    return 0


def _read(path: Path, device: str) -> _Finished:
    """A finished search; a `ValueError` says why it is none."""
    config = _search_config(path)
    directory = RunDirectory(path)
    for damage in directory.damages():
        tell(damage)
    records = [record for record in directory.records() if record.get("search") == "search"]
    about = config["search"]
    best = winner(records, about["objective"])
    if best is None or len(records) < about["trials"]:
        raise ValueError(f"{str(path)!r} holds no finished search to replay")
    events = read_events(directory.schedule_path, "search")
    winning_line(events, best)
    setting = load_setting(config, device)
    alone = bool(config.get("options", {}).get("one_at_a_time", False))
    setting = dataclasses.replace(setting, one_at_a_time=alone)
    objective = Objective(list(about["objective"]), setting.benchmark)
    if "delta_m" in objective.names:
        objective.baseline = baseline_metrics([r for r in directory.records() if r["phase"] == "single_task"])
    return _Finished(
        directory,
        Problem(Space({}), run_length(setting), about["interval"], 0, len(objective.names)),
        objective,
        cohort_maker(setting),
        events,
        {record["trial"]: record for record in records},
        best,
        bool(about.get("asynchronous", False)),
        setting.settings.lr,
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _print(text: str) -> None:
    console.print(text, highlight=False, markup=False)


def _search_config(path: Path) -> Config:
    config = read_config(path)
    if config.get("command") != "search" or "search" not in config:
        raise ValueError(f"{str(path)!r} is not the directory of a search")
    return config
