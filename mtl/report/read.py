"""Reads the files of one or several run directories into one study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.benchmarks.digest import difference, digest_difference
from mtl.files.config import read_config as read_config
from mtl.files.python_files import without_folders
from mtl.files.records import named_lines, read_records
from mtl.stats import Directions, Metrics, finite

_DONE = "done"
# What parts of one study may differ in, because it says which part they are or where it ran.
_PART_KEYS = (
    *("strategies", "seeds", "machine", "versions", "out", "created", "command_line", "command", "options", "study"),
    *("benchmark", "tasks", "data", "digests"),  # compared by themselves
)


@dataclass(frozen=True)
class RecordedRun:
    """A finished run: its line of results.jsonl, and the directory that holds its curves."""

    record: Mapping[str, Any]
    directory: Path

    @property
    def done(self) -> bool:
        """Whether it trained to its end, rather than diverging or failing."""
        return self.status == _DONE

    @property
    def status(self) -> str:
        """`done`, `diverged` or `failed`."""
        return str(self.record["status"])

    @property
    def strategy(self) -> str:
        """The strategy's spec."""
        return str(self.record["strategy"])

    @property
    def seed(self) -> int:
        """The seed; 0 when the line has none."""
        return int(self.record.get("seed") or 0)

    @property
    def metrics(self) -> Metrics:
        """Test metrics by task; empty when the run has none."""
        return self.record.get("metrics") or {}

    @property
    def without(self) -> Mapping[str, Mapping[str, Sequence[float | None]]]:
        """Test metrics by task without each fold of the examples in turn; empty when they were not measured."""
        return self.record.get("metrics_without") or {}

    def cost(self, what: str) -> float | None:
        """One number of its cost."""
        value = (self.record.get("cost") or {}).get(what)
        return value if finite(value) else None

    def history(self) -> dict[str, Any] | None:
        """Its curves; None when it has none, or when they cannot be read."""
        found = self._history()
        return found if isinstance(found, dict) else None

    def history_fault(self) -> str | None:
        """Why curves that it has cannot be read."""
        found = self._history()
        return found if isinstance(found, str) else None

    def _history(self) -> dict[str, Any] | str | None:
        name = self.record.get("history")
        if not name:
            return None
        shown = _short(self.directory, str(name))
        try:
            curves = json.loads((self.directory / str(name)).read_bytes().decode())
        except OSError as error:
            return f"{shown}: {error.strerror}"
        except json.JSONDecodeError as error:
            return f"{shown}, line {error.lineno}: {error.msg}"
        except UnicodeDecodeError as error:
            return f"{shown}: not UTF-8 at byte {error.start + 1}"
        return curves if isinstance(curves, dict) else f"{shown}: no curves in it"


@dataclass(frozen=True)
class Study:
    """Everything a report is made of.

    Attributes:
        config: settings of the first directory, with the strategies and seeds of all.
        directions: of each task's metrics, whether higher is better.
        primary: each task's primary metric.
        strategies: specs in the order in which they were asked for.
        seeds: in ascending order.
        reference: the strategy that the others are tested against.
        runs: each once, by phase, strategy and seed.
        configs: the settings of each directory.
        unreadable: remarks on lines and files that could not be read.
        remarks: what a reader of the merged numbers should know.
    """

    config: dict[str, Any]
    directions: Directions
    primary: dict[str, str]
    strategies: list[str]
    seeds: list[int]
    reference: str
    runs: list[RecordedRun]
    configs: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return str(self.config["benchmark"])

    @property
    def varied(self) -> bool:
        """Whether variants are compared, rather than strategies."""
        return bool((self.config.get("options") or {}).get("vary"))

    def config_of(self, run: RecordedRun | None) -> Mapping[str, Any]:
        """The settings that a run was trained with: parts of a study may differ in them."""
        return self.config if run is None else self.configs.get(run.directory, self.config)

    def of(self, phase: str, strategy: str | None = None) -> list[RecordedRun]:
        """Runs of a phase, in order of their seeds."""
        found = (run for run in self.runs if run.record["phase"] == phase and strategy in (None, run.strategy))
        return sorted(found, key=lambda run: run.seed)

    def losses(self) -> list[str]:
        """The losses that were weighed in any final run, those of tasks first; of all tasks where none has curves."""
        found = dict.fromkeys(name for run in self.of("final") for name in weighed_losses_of(run.history() or {}))
        tasks = [task for task in self.directions if task in found or not found]
        return [*tasks, *(name for name in found if name not in tasks)]

    def searched(self, *, strategy: str | None = None, task: str | None = None) -> list[RecordedRun]:
        """The runs that tuned a strategy, or the single-task baseline of a task."""
        return [run for run in self.of("search", strategy) if run.record.get("task") == task]


def weighed_losses_of(history: Mapping[str, Any]) -> dict[str, str]:
    """The losses that were weighed in a run, by name the task of each: in earlier versions one of each task."""
    found = history.get("losses")
    return found if isinstance(found, dict) else {task: task for task in history.get("tasks") or []}


def read_study(directories: Sequence[Path]) -> Study:
    """Merge the directories, such as the parts of a SLURM array.

    Raises:
        ValueError: a directory has no readable config.yaml, no finished run is found, or benchmarks differ.
    """
    if not directories:
        raise ValueError("no run directory is given")
    configs = [read_config(directory) for directory in directories]
    for directory, config in zip(directories, configs, strict=True):
        if not _one_benchmark(configs[0], config):
            apart: str | None = f"the benchmark ({configs[0]['benchmark']!r}; {config['benchmark']!r})"
        else:
            apart = difference(configs[0], config)
        if apart:
            raise ValueError(f"run directories {str(directories[0])!r} and {str(directory)!r} differ in {apart}")
    runs: list[RecordedRun] = []
    unreadable: list[str] = []
    for directory in directories:
        found, faults = read_runs(directory)
        runs += found
        unreadable += faults
    for run in runs:
        if apart := digest_difference(configs[0].get("digests") or {}, run.record.get("digests") or {}):
            raise ValueError(f"run {run.record['run']} in {str(run.directory)!r} was made on something else: {apart}")
    if not runs:
        raise ValueError(f"no finished run in {', '.join(repr(str(directory)) for directory in directories)}")
    by_directory = dict(zip(directories, configs, strict=True))
    unique, remarks = _once_each(runs, by_directory)
    tasks = configs[0]["tasks"]
    final = [run for run in unique if run.record["phase"] == "final"]
    strategies = _in_order([spec for config in configs for spec in config.get("strategies") or ()], final)
    seeds = sorted(
        {int(seed) for config in configs for seed in config.get("seeds") or ()} | {run.seed for run in final}
    )
    reference = str(configs[0].get("reference") or (strategies[0] if strategies else ""))
    return Study(
        config={**configs[0], "strategies": strategies, "seeds": seeds},
        directions={
            task: {name: bool(metric["higher_is_better"]) for name, metric in entry["metrics"].items()}
            for task, entry in tasks.items()
        },
        primary={task: str(entry.get("primary") or next(iter(entry["metrics"]))) for task, entry in tasks.items()},
        strategies=strategies,
        seeds=seeds,
        reference=reference,
        runs=unique,
        configs=by_directory,
        unreadable=unreadable,
        remarks=remarks + _differing_settings(by_directory),
    )


def _one_benchmark(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two parts are of one benchmark: of another machine, its file may be in another folder."""
    names = [str(config["benchmark"]) for config in (first, other)]
    if first.get("digests") and other.get("digests"):
        names = [without_folders(name) for name in names]
    return names[0] == names[1]


def read_runs(directory: Path) -> tuple[list[RecordedRun], list[str]]:
    """The finished runs of a directory, and a remark for what could not be read; of one run the last line counts."""
    found = read_records(directory / "results.jsonl")
    runs = [RecordedRun(record, directory) for record in found.runs.values()]
    remarks = _unreadable_histories(runs)
    if found.unreadable:
        named = named_lines(_short(directory, "results.jsonl"), found.unreadable)
        remarks.insert(0, f"No finished run could be read in {named}: left out.")
    return runs, remarks


def _short(directory: Path, name: str) -> Path:
    """A file as a report names it, wherever its directory is."""
    return Path(directory.resolve().name) / name


def _unreadable_histories(runs: Sequence[RecordedRun]) -> list[str]:
    faults = [fault for run in runs if (fault := run.history_fault())]
    more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
    return [f"The curves of a run are left out: {faults[0]}{more}."] if faults else []


def _once_each(
    runs: Sequence[RecordedRun], configs: Mapping[Path, Mapping[str, Any]]
) -> tuple[list[RecordedRun], list[str]]:
    """Parts of an array may share runs, such as baselines: keep the first that finished.

    Raises:
        ValueError: two parts have a run in common, and differ in a setting: one of the two would be dropped.
    """
    kept: dict[tuple[Any, ...], RecordedRun] = {}
    repeated = 0
    for run in runs:
        trial = run.record["run"] if run.record["phase"] == "search" else None
        key = (run.record["phase"], run.strategy, run.record.get("task"), run.seed, trial)
        repeated += key in kept
        if key in kept and (apart := _settings_apart(configs[kept[key].directory], configs[run.directory])):
            raise ValueError(
                f"run {run.record['run']} is in {str(kept[key].directory)!r} and in {str(run.directory)!r}, which "
                f"differ in {apart[0]}: report each by itself"
            )
        if key not in kept or (run.done and not kept[key].done):
            kept[key] = run
    remark = f"{repeated} runs occur more than once; the first finished one of each counts."
    return list(kept.values()), [remark] if repeated else []


def _in_order(asked_for: Sequence[Any], runs: Sequence[RecordedRun]) -> list[str]:
    return list(dict.fromkeys([*map(str, asked_for), *(run.strategy for run in runs)]))


def _settings_apart(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings in which two directories differ, with the values of each; those within a group by themselves."""
    found = []
    for key in sorted({*map(str, first), *map(str, other)} - {*_PART_KEYS, "reference"}):
        old, new = first.get(key), other.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            found += [f"{key}.{name} ({old.get(name)}; {new.get(name)})" for name in names]
        elif old != new:
            found.append(f"{key} ({old}; {new})")
    return found


def _differing_settings(configs: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """How the settings of each directory differ from those of the first, and whose reference counts."""
    (first, its), *others = configs.items()
    found = [
        f"{directory.name or directory} was trained with other settings than {first.name or first}: "
        f"{', '.join(apart)}. Runs of both are counted alike."
        for directory, config in others
        if (apart := _settings_apart(its, config))
    ]
    references = {str(config["reference"]) for config in configs.values() if config.get("reference")}
    if len(references) > 1:
        found.append(f"The parts have different references, {', '.join(sorted(references))}: the first part's counts.")
    return found
