"""Carries out the runs of a strategy as one population: the same records as one at a time, sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtl.study.plan import RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setting import Setting, record_of
from mtl.study.watchers import Watchers
from mtl.train import Cohort, Member, Stopped, checkpoint

# Runs from which one program is faster than one run after another; measured on small networks (docs/population.md).
_FEWEST = {"cpu": 3}
_TOGETHER = "-together"  # ends the name of a population's checkpoint


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


class Begun(NamedTuple):
    """A population that was checkpointed and is to be gone on with.

    Attributes:
        path: of its checkpoint.
        runs: those of it that are planned.
        saved: what the checkpoint holds.
    """

    path: Path
    runs: list[RunPlan]
    saved: dict[str, Any]


def populations_begun(plan: Iterable[RunPlan], directory: RunDirectory, tell: Callable[[str], None]) -> list[Begun]:
    """The populations in `directory` that have planned runs, whatever other runs are planned with them by now.

    A damaged checkpoint is said and removed: its runs start over.

    Raises:
        OSError, MemoryError, RuntimeError: a checkpoint may be sound, but cannot be read here and now.
    """
    planned = {run.name: run for run in plan}
    found = []
    for path in sorted(directory.path.glob(f"checkpoints/*{_TOGETHER}.pt")):
        try:
            saved = checkpoint.load(path)
        except checkpoint.Damaged as damage:
            tell(f"{damage}: its runs start over")
            path.unlink()
            continue
        if saved is not None and (runs := [planned[name] for name in saved["runs"] if name in planned]):
            found.append(Begun(path, runs, saved))
    return found


def execute_together(
    runs: Sequence[RunPlan],
    setting: Setting,
    directory: RunDirectory,
    watchers: Watchers,
    should_stop: Callable[[], bool],
    begun: Begun | None = None,
) -> list[dict[str, Any]]:
    """Train runs that differ in their seed, write them, and return their records.

    Args:
        runs: to be trained.
        setting: what they have in common.
        directory: where they are written.
        watchers: told of them.
        should_stop: asked between two steps.
        begun: the population to go on with, of which `runs` are those that are planned.

    Raises:
        Stopped: `should_stop` said so; the population is checkpointed.
        OSError: a record could not be written.
    """
    population = _Population(runs, setting, directory, begun)
    while not population.finished():
        if should_stop():
            population.save()
            raise Stopped
        population.step()
        watchers.progress_together(runs, population.cohort.step, population.total)
    return population.write(watchers)


class _Population:
    """The runs between two steps, and their points of the curves so far."""

    def __init__(self, runs: Sequence[RunPlan], setting: Setting, directory: RunDirectory, begun: Begun | None) -> None:
        self.path = begun.path if begun is not None else checkpoint_of(runs, directory)
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
            observe=lambda number, step, values: self.rows[number].append((step, values)),
        )
        self.rows: list[list[tuple[int, dict[str, float]]]] = [[] for _ in self.runs]
        if begun is not None:
            self._load(begun.saved)
        self.total = self.cohort.length

    def _load(self, saved: dict[str, Any]) -> None:
        self.cohort.load_state_dict(saved["cohort"])
        kept = [saved["runs"].index(run.name) for run in self.runs]
        if len(kept) < len(saved["runs"]):
            gone = [name for name in saved["runs"] if name not in {run.name for run in self.runs}]
            self.setting.tell(f"{', '.join(gone)}: begun and not asked for any more, so not gone on with")
            self.cohort.keep(kept)
        self.rows = [[(step, values) for step, values in saved["rows"][place]] for place in kept]

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

    def write(self, watchers: Watchers) -> list[dict[str, Any]]:
        """Write every run that is not written yet, and tell the watchers of each from beginning to end."""
        written = {record["run"]: record for record in self.directory.records()}
        records = []
        for number, (run, result, rows) in enumerate(zip(self.runs, self.cohort.results(), self.rows, strict=True)):
            if run.name in written:
                records.append(written[run.name])
                continue
            plain, hyperparameters = record_of(run, result, self.setting.benchmark.name)
            watchers.begin(run, hyperparameters)
            for step, values in rows:
                watchers.row(run, step, values)
            record = self.directory.append(plain, result.history, partial(self.cohort.weights, number))
            watchers.end(run, record)
            records.append(record)
        self.path.unlink(missing_ok=True)
        return records


def checkpoint_of(runs: Sequence[RunPlan], directory: RunDirectory) -> Path:
    """Where runs that are trained together keep their checkpoint; other seeds of the same strategy have another."""
    return directory.checkpoint(f"{runs[0].name}-and-{len(runs) - 1}-more{_TOGETHER}")
