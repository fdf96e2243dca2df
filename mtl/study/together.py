"""Carries out the runs of a strategy as one population: the same records as one at a time, sooner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtl.population import Cohort, Member
from mtl.study.plan import RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setting import Observer, Setting, record_of
from mtl.train import Stopped, checkpoint

# Runs from which one program is faster than one run after another; measured on small networks (docs/population.md).
_FEWEST = {"cpu": 3}


def grouped(runs: Sequence[RunPlan], setting: Setting) -> list[list[RunPlan]]:
    """The runs of a plan that are trained together, in the order of the plan: those that only differ in their seed."""
    if setting.one_at_a_time:
        return [[run] for run in runs]
    groups: dict[tuple[str, str, str | None], list[RunPlan]] = {}
    for run in runs:
        groups.setdefault((run.phase, run.strategy, run.task), []).append(run)
    fewest = _FEWEST.get(setting.device.type, 2)
    found = []
    for group in groups.values():
        found += [group] if len(group) >= fewest else [[run] for run in group]
    return found


def execute_together(
    runs: Sequence[RunPlan],
    setting: Setting,
    directory: RunDirectory,
    observers: Sequence[Observer],
    should_stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Train runs that differ in their seed, write them, and return their records.

    Raises:
        Stopped: `should_stop` said so; the population is checkpointed.
        OSError: a record could not be written.
    """
    run_of = _Population(runs, setting, directory)
    while not run_of.finished():
        if should_stop():
            run_of.save()
            raise Stopped
        run_of.step()
        for observer in observers:
            observer.progress_together(runs, run_of.cohort.step, run_of.total)
    return run_of.write(observers)


class _Population:
    """The runs between two steps, and their points of the curves so far."""

    def __init__(self, runs: Sequence[RunPlan], setting: Setting, directory: RunDirectory) -> None:
        self.runs, self.setting, self.directory = list(runs), setting, directory
        first = self.runs[0]
        tasks = [task for task in setting.benchmark.tasks if first.task in (None, task.name)]
        members = [Member(run.strategy, run.seed) for run in self.runs]
        self.cohort = Cohort(
            setting.benchmark,
            setting.splits,
            members,
            setting.settings,
            tasks=tasks,
            device=setting.device,
            tell=setting.tell,
        )
        self.rows: list[list[tuple[int, dict[str, float]]]] = [[] for _ in self.runs]
        self.total = max(record.total for record in self.cohort.records)
        self._load()
        for rows, record in zip(self.rows, self.cohort.records, strict=True):
            record.observe = lambda step, values, rows=rows: rows.append((step, values))  # type: ignore[misc]

    @property
    def path(self) -> Path:
        """Where the population keeps its checkpoint."""
        return checkpoint_of(self.runs, self.directory)

    def _load(self) -> None:
        saved = checkpoint.load(self.path, self.setting.device)
        if saved is not None and saved["runs"] == [run.name for run in self.runs]:
            self.cohort.load_state_dict(saved["cohort"])
            self.rows = [[(step, values) for step, values in rows] for rows in saved["rows"]]

    def save(self) -> None:
        """Write the checkpoint."""
        rows = [[[step, values] for step, values in each] for each in self.rows]
        names = [run.name for run in self.runs]
        checkpoint.save(self.path, {"runs": names, "cohort": self.cohort.state_dict(), "rows": rows})

    def finished(self) -> bool:
        """Whether every run has nothing left to do."""
        return all(self.cohort.finished())

    def step(self) -> None:
        """One step of each, and a checkpoint where an evaluation was made."""
        self.cohort.advance(1)
        if self.cohort.step % self.cohort.stretch == 0 and not self.finished():
            self.save()

    def write(self, observers: Sequence[Observer]) -> list[dict[str, Any]]:
        """Write every run that is not written yet, and tell the observers of each from beginning to end."""
        written = {record["run"]: record for record in self.directory.records()}
        records = []
        for run, result, rows in zip(self.runs, self.cohort.results(), self.rows, strict=True):
            if run.name in written:
                records.append(written[run.name])
                continue
            plain, hyperparameters = record_of(run, result, self.setting.benchmark.name)
            for observer in observers:
                observer.begin(run, hyperparameters)
                for step, values in rows:
                    observer.row(run, step, values)
            record = self.directory.append(plain, result.history)
            for observer in observers:
                observer.end(run, record)
            records.append(record)
        self.path.unlink(missing_ok=True)
        return records


def checkpoint_of(runs: Sequence[RunPlan], directory: RunDirectory) -> Path:
    """Where runs that are trained together keep their checkpoint."""
    return directory.checkpoint(f"{runs[0].name.rpartition('-')[0]}-together")
