"""Makes a run directory of an experiment of Ray Tune, so that `mtl report` and `mtl replay` understand it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ray import tune

from mtl.files.lineage import Event, read_events, source_steps, write_events
from mtl.ray.tune.about import STATE, About, number_of
from mtl.search.methods import Method, MethodOptions, Problem, Start
from mtl.search.plan import cohort_maker, run_length
from mtl.search.search import Search
from mtl.search.space import Space
from mtl.search.standing import Standing, Totals
from mtl.search.trial import Trial
from mtl.study.described import described
from mtl.study.models import Models, Weights
from mtl.study.rundir import RunDirectory, open_run_directory
from mtl.study.setup import StudySetup
from mtl.train import Member, Result
from mtl.train import checkpoint as checkpoints


class DecidedByTune(Method):
    """The method of a search that Ray Tune carries out: it decides nothing itself."""

    name = "tune"
    about = "Ray Tune's schedulers and searchers"

    def begin(self) -> list[Start]:
        return []


def search_by_tune(
    about: About, setting: StudySetup, name: str, trials: int, interval: int, space: Space, seed: int
) -> Search:
    """A search that Ray Tune carries out: observers watch it, and records get their form from it."""
    problem = Problem(space, run_length(setting), interval, seed, len(about.objective.names))
    method = DecidedByTune(problem, MethodOptions(members=max(1, trials)))
    method.name = name  # type: ignore[misc]
    return Search("search", "", method, problem, about.objective, cohort_maker(setting))


def result_dir(grid: tune.ResultGrid | str | Path | list[Path], path: str | Path) -> Path:
    """Make a run directory of any experiment with our trainable: its files, its report, and the best model's weights.

    Args:
        grid: what `Tuner.fit()` returned, the directory of the experiment, or a checkpoint of each trial.
        path: of the run directory, which must not hold a run yet.

    Returns:
        The run directory.

    Raises:
        ValueError: no trial of our trainable has a checkpoint, or `path` holds a run or cannot be written; one line.
    """
    from mtl.report import write_report

    folders = checkpoints_of(grid)
    if not folders:
        raise ValueError("no trial of mtl.ray.trainable has reported anything")
    first = _read(folders[0])
    about = About.restored(first["about"])
    setting = about.setting(trains=False)
    with open_run_directory(Path(path), resume=False) as directory:
        directory.write_config(
            {"study": directory.path.resolve().name, "command": "search", "benchmark": about.benchmark}
        )
        search = search_by_tune(about, setting, "tune", len(folders), int(first.get("interval", 1)), Space({}), 0)
        directory.models = Models(directory.path, about.keep_models, about.objective.higher_is_better())
        records = write_results(directory, folders, search, setting)
        strategies = list(dict.fromkeys(record["strategy"] for record in records))
        found = {
            "method": "tune",
            "engine": "tune",
            "members": len(records),
            "trials": len(records),
            "interval": search.problem.interval,
            "length": search.problem.length,
            "objective": about.objective.higher_is_better(),
            "space": _ranges(directory),
        }
        seeds = [min(record["seed"] for record in records)]
        told = described(setting, about.benchmark, strategies, seeds, strategies[0])
        directory.write_config({"study": directory.path.resolve().name, "command": "search", **told, "search": found})
        write_report([directory.path], directory.path)
        directory.models.settle(records, None)
    return directory.path


def checkpoints_of(grid: tune.ResultGrid | str | Path | list[Path]) -> list[Path]:
    """The newest checkpoint of each trial that has one of ours, in order of the trials."""
    if isinstance(grid, str | Path):
        # What a trial was given of another's counts only once it went on from there, and then it has one of its own.
        newest = [sorted(trial.glob("checkpoint_*"))[-1:] for trial in sorted(Path(grid).iterdir()) if trial.is_dir()]
        found = [path for some in newest for path in some]
    elif isinstance(grid, list):
        found = [*grid]
    else:
        found = [Path(result.checkpoint.path) for result in _results(grid) if result.checkpoint is not None]
    return [path for path in found if (path / STATE).is_file()]


def _results(grid: Any) -> Iterator[tune.Result]:
    yield from grid


def write_results(
    directory: RunDirectory, folders: Sequence[Path], search: Search, setting: StudySetup
) -> list[dict[str, Any]]:
    """Write the records and the schedule of an experiment. A run that has a record already keeps it.

    Args:
        directory: the run directory.
        folders: the newest checkpoint of each trial.
        search: gives records their form.
        setting: of the runs.

    Returns:
        All records of the directory.
    """
    saved = sorted(((_read(folder), folder) for folder in folders), key=lambda pair: number_of(pair[0]["trial"]))
    recorded = {record["run"]: record for record in directory.records()}
    events: list[Event] = []
    if saved and "run" in saved[0][0]:
        search.standing = Standing(totals=Totals(steps=sum(state["run"]["step"] for state, _ in saved)))
        numbers = {state["trial"]: number for number, (state, _) in enumerate(saved)}
        for number, (state, _) in enumerate(saved):
            if search.run_name(number) not in recorded:
                record, history, weigh = _record(state, number, numbers, search, setting)
                record["shards"] = len(saved)
                if state.get("failure"):
                    record["traceback"] = _traceback(directory, record["run"], state)
                recorded[record["run"]] = directory.append(record, history, weigh)
            events += _events(state, numbers, search.name)
        events = _by_clock(events, [state["run"]["step"] for state, _ in saved])
    else:
        first = 0
        for place, (state, folder) in enumerate(saved):
            inside = RunDirectory(folder)
            traceback = _traceback(directory, f"shard-{place}", state) if state.get("failure") else None
            for record in inside.records():
                number = first + record["trial"]
                name = search.run_name(number)
                if name not in recorded:
                    curves = _curves(folder / str(record["history"]))
                    best = first + record["best_trial"]
                    moved = {**record, "run": name, "trial": number, "best_trial": best, "spent": None}
                    if record["status"] == "failed":
                        moved["traceback"] = traceback
                    recorded[name] = directory.append(moved, curves, _kept(folder, record["run"]))
            shard = read_events(inside.schedule_path, "search")
            events += [_moved(event, first) for event in shard]
            first += 1 + max((event.target for event in shard), default=0)
    events.sort(key=lambda event: (event.step, event.source is not None))
    write_events(directory.schedule_path, events, 0)
    return directory.records()


def _read(folder: Path) -> dict[str, Any]:
    saved = checkpoints.load(folder / STATE)
    if saved is None:
        raise ValueError(f"checkpoint {folder / STATE} cannot be read")
    return saved


def _record(
    state: Mapping[str, Any], number: int, numbers: Mapping[str, int], search: Search, setting: StudySetup
) -> tuple[dict[str, Any], dict[str, Any], Callable[[], Weights]]:
    """The record of a trial, its curves and what gives its weights, from its newest checkpoint."""
    run = dataclasses.replace(Trial.restored(state["run"]), number=number)
    by_own = {number_of(name): place for name, place in numbers.items()}
    if run.best is not None:
        best = dataclasses.replace(run.best, trial=by_own.get(run.best.trial, number))
        run = dataclasses.replace(run, best=best)
    if state.get("failure"):
        return (*search.record(run, Result.of_failure(state["failure"]["error"]), setting.benchmark.name), dict)
    member = Member(**state["cohort"]["members"][0])
    cohort = cohort_maker(setting)([member])
    cohort.load_state_dict(state["cohort"])
    (result,) = cohort.results()
    assert result is not None
    return (*search.record(run, result, setting.benchmark.name), lambda: cohort.weights(0))


def _events(state: Mapping[str, Any], numbers: Mapping[str, int], search: str) -> list[Event]:
    """How a trial came about. A source that left no checkpoint cannot be named, and so neither what it gave."""
    found = []
    for event in state["events"]:
        source = None if event["source"] is None else numbers[event["source"]]
        found.append(Event(**{**event, "search": search, "target": numbers[event["target"]], "source": source}))
    return found


def _by_clock(events: Sequence[Event], ends: Sequence[int]) -> list[Event]:
    """The events with what all trials together had spent, where all went together: then they can be trained again so.

    Each trial is a shard of its own.
    """
    together = len(set(ends)) == 1 and all(
        event.source is None or source_steps(event) == event.step for event in events
    )
    if not together:
        return list(events)
    count = len(ends)
    return [dataclasses.replace(event, spent=event.step * count, shards=count) for event in events]


def _moved(event: Event, first: int) -> Event:
    source = None if event.source is None else first + event.source
    return dataclasses.replace(event, target=first + event.target, source=source, spent=None)


def _traceback(directory: RunDirectory, name: str, state: Mapping[str, Any]) -> str:
    """The file that a trial's traceback is written to, within the run directory."""
    path = directory.write_failure(name, state["failure"]["traceback"])
    return str(path.relative_to(directory.path))


def _kept(folder: Path, run: str) -> Callable[[], Weights] | None:
    """What gives the weights of a run of a shard; None where the shard did not keep them."""
    path = folder / "checkpoints" / f"{run}.weights"
    return (lambda: torch.load(path, weights_only=True)) if path.exists() else None


def _curves(path: Path) -> dict[str, Any]:
    import json

    curves: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return curves


def _ranges(directory: RunDirectory) -> dict[str, str]:
    """What was tried, in the words of the command line: the space itself is known to the user alone."""
    tried: dict[str, list[Any]] = {}
    for event in read_events(directory.schedule_path):
        for name, value in event.after.items():
            tried.setdefault(name, []).append(value)
    found = {}
    for name, values in tried.items():
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        several = len(numbers) == len(values) and len(set(numbers)) > 1
        found[name] = f"{min(numbers):g}:{max(numbers):g}" if several else ",".join(sorted({str(v) for v in values}))
    return found
