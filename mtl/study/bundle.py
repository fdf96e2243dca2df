"""Runs of a plan that are trained together, one or several: the same records as one at a time, sooner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtl.study.plan import RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup, record_of
from mtl.study.watchers import Watchers
from mtl.train import Cohort, Member, Result, checkpoint
from mtl.train.cohort import check_state
from mtl.train.ground import Observe
from mtl.train.loop import train_to_the_end

# Runs from which one program is faster than one run after another; measured on small networks (docs/population.md).
_FEWEST = {"cpu": 3}
_TOGETHER = "-together"  # ends the name of the checkpoint of several


def bundled(runs: Sequence[RunPlan], setting: StudySetup) -> list[list[RunPlan]]:
    """The runs of a plan that are trained together, in the order of the plan: those that only differ in their seed."""
    if setting.one_at_a_time:
        return [[run] for run in runs]
    alike: dict[tuple[str, str, str | None], list[RunPlan]] = {}
    for run in runs:
        alike.setdefault((run.phase, run.strategy, run.task), []).append(run)
    fewest = _FEWEST.get(setting.device.type, 2)
    found = []
    for some in alike.values():
        found += [some] if len(some) >= fewest else [[run] for run in some]
    return found


class Begun(NamedTuple):
    """Runs that were checkpointed and are to be gone on with.

    Attributes:
        path: of the checkpoint.
        runs: those of it that are planned.
        saved: what the checkpoint holds.
    """

    path: Path
    runs: list[RunPlan]
    saved: dict[str, Any]


def begun_together(plan: Iterable[RunPlan], directory: RunDirectory, tell: Callable[[str], None]) -> list[Begun]:
    """What was begun of several runs in `directory`, if planned, whatever other runs are planned with them by now."""
    paths = sorted(directory.path.glob(f"checkpoints/*{_TOGETHER}.pt"))
    planned = list(plan)
    return [found for path in paths if (found := _begun(path, planned, tell, "its runs start over"))]


def begun_alone(run: RunPlan, directory: RunDirectory, tell: Callable[[str], None]) -> Begun | None:
    """What was begun of one run by itself; None where it was not."""
    return _begun(directory.checkpoint(run.name), [run], tell, "the run starts over")


def _begun(path: Path, planned: Sequence[RunPlan], tell: Callable[[str], None], remedy: str) -> Begun | None:
    """What a checkpoint holds of planned runs; one that cannot be gone on with is said and removed.

    Raises:
        OSError, MemoryError, RuntimeError: it may be sound, but cannot be read here and now.
    """
    try:
        saved = checkpoint.load(path)
        if saved is None:
            return None
        check_state(saved.get("cohort", {}))
    except (checkpoint.Damaged, ValueError) as fault:
        named = fault if isinstance(fault, checkpoint.Damaged) else f"checkpoint {path}: {fault}"
        tell(f"{named}: {remedy}")
        path.unlink()
        return None
    names = {run.name: run for run in planned}
    runs = [names[name] for name in saved["runs"] if name in names]
    return Begun(path, runs, saved) if runs else None


class Bundle:
    """Runs that differ in their seed, between two of their steps.

    Of a run by itself watchers are told as it goes, from here on. Several are told of one after another when all are
    finished, and the points of their curves are kept until then.

    Args:
        runs: to be trained.
        setting: what they have in common.
        directory: where they are written.
        watchers: told of them.
        begun: what to go on with, of which `runs` are those that are planned.
    """

    def __init__(
        self,
        runs: Sequence[RunPlan],
        setting: StudySetup,
        directory: RunDirectory,
        watchers: Watchers,
        begun: Begun | None = None,
    ) -> None:
        self._path = begun.path if begun is not None else checkpoint_of(runs, directory)
        setting = setting.of(runs[0])
        self._runs, self._setting, self._directory, self._watchers = list(runs), setting, directory, watchers
        self._alone = len(self._runs) == 1 and self._path == directory.checkpoint(self._runs[0].name)
        self._rows: list[list[tuple[int, dict[str, float]]]] = [[] for _ in self._runs]
        if self._alone:
            self._begin(self._runs[0])
        if setting.processes is not None:  # those that follow begin here
            setting.processes.said(lambda: {"cohort": None if begun is None else begun.saved["cohort"]})
        self._cohort = cohort_of(self._runs, setting, alone=self._alone, observe=self._observe)
        if begun is not None:
            self._load(begun.saved)

    def _begin(self, run: RunPlan) -> None:
        self._watchers.begin(run, {"spec": self._setting.strategy(run), **self._setting.hyperparameters(run)})

    def _observe(self, number: int, step: int, values: dict[str, float]) -> None:
        if self._alone:
            self._watchers.row(self._runs[number], step, values)
        else:
            self._rows[number].append((step, values))

    def _load(self, saved: dict[str, Any]) -> None:
        self._cohort.load_state_dict(saved["cohort"])
        kept = [saved["runs"].index(run.name) for run in self._runs]
        if len(kept) < len(saved["runs"]):
            gone = [name for name in saved["runs"] if name not in {run.name for run in self._runs}]
            self._setting.tell(f"{', '.join(gone)}: begun and not asked for any more, so not gone on with")
            self._cohort.keep(kept)
        self._rows = [[(step, values) for step, values in saved["rows"][place]] for place in kept]

    def _save(self) -> None:
        rows = [[[step, values] for step, values in each] for each in self._rows]
        names = [run.name for run in self._runs]
        checkpoint.save(self._path, {"runs": names, "cohort": self._cohort.state_dict(), "rows": rows})

    def carry_out(self, should_stop: Callable[[], bool]) -> list[dict[str, Any]]:
        """Train the runs to their ends, write those that are not written yet, and return the records of all.

        Raises:
            Stopped: `should_stop` said so; they are checkpointed.
            OSError: a record could not be written, or another process of the run has ended (`ProcessLost`).
        """
        progress, learning = (partial(tell, self._runs) for tell in (self._watchers.progress, self._watchers.learning))
        processes = self._setting.processes
        with contextlib.nullcontext() if processes is None else processes.noticing():
            train_to_the_end(self._cohort, self._save, progress, should_stop, learning=learning)
            results = self._cohort.results(self._setting.folds)
        written = self._directory.finished()  # those of several, where the process was killed while they were written
        records = [
            written[run.name] if run.name in written else self._write(number, run, result)
            for number, (run, result) in enumerate(zip(self._runs, results, strict=True))
        ]
        if not self._alone:
            self._path.unlink(missing_ok=True)
        return records

    def _write(self, number: int, run: RunPlan, result: Result) -> dict[str, Any]:
        if not self._alone:
            self._begin(run)
        for step, values in self._rows[number]:
            self._watchers.row(run, step, values)
        plain = record_of(run, result, self._setting)
        record = self._directory.append(plain, result.written, partial(self._cohort.weights, number))
        self._watchers.end(run, record)
        return record


def cohort_of(runs: Sequence[RunPlan], setting: StudySetup, *, alone: bool, observe: Observe | None = None) -> Cohort:
    """Runs of one kind before their first step; `alone` is as in `train`, without a population."""
    task = runs[0].task
    return Cohort(
        setting.benchmark,
        setting.splits,
        [Member(setting.strategy(run), run.seed) for run in runs],
        setting.settings,
        tasks=[each for each in setting.benchmark.tasks if task in (None, each.name)],
        device=setting.device,
        vectorised=not alone,
        tell=setting.tell,
        observe=observe,
        processes=setting.processes,
    )


def checkpoint_of(runs: Sequence[RunPlan], directory: RunDirectory) -> Path:
    """Where runs that are trained together keep their checkpoint; other seeds of the same strategy have another."""
    several = f"-and-{len(runs) - 1}-more{_TOGETHER}" if len(runs) > 1 else ""
    return directory.checkpoint(runs[0].name + several)
