"""Carries out a plan; finished runs are not repeated, and a run that fails does not end the study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtl.study.bundle import Begun, Bundle, begun_alone, begun_together, bundled, checkpoint_of
from mtl.study.plan import Plan, RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setup import Observer, StudySetup, record_of
from mtl.study.watchers import Watchers, one_line
from mtl.train import Result, Stopped


def execute(
    plan: Plan,
    setting: StudySetup,
    directory: RunDirectory,
    observers: list[Observer],
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train every run of `plan` that `directory` does not hold yet, and return the records of all.

    Raises:
        Stopped: `should_stop` said so; the run in progress is checkpointed.
        OSError: a finished run could not be written; the ones before it are intact.
    """
    records = directory.finished()
    watchers = Watchers(observers, directory, setting.tell)

    def carry_out(runs: list[RunPlan], begun: Begun | None = None) -> None:
        """Train runs together, with their records; without any where several fail, so that each is tried by itself."""
        try:
            found = Bundle(runs, setting, directory, watchers, begun).carry_out(should_stop)
        except (Stopped, OSError):
            raise
        except Exception as failure:  # a strategy or a user's model may raise anything; the study goes on
            path = begun.path if begun is not None else checkpoint_of(runs, directory)
            if path == directory.checkpoint(runs[0].name):
                found = [_failed(runs[0], setting, directory, watchers, failure)]
            else:
                said = f"its runs failed together and are tried one at a time ({one_line(failure)})"
                setting.tell(f"{runs[0].strategy}: {said}")
                path.unlink(missing_ok=True)
                found = []
        records.update((record["run"], record) for record in found)

    for begun in begun_together(plan.runs, directory, setting.tell):
        if all(run.name in records for run in begun.runs):
            begun.path.unlink()
        elif setting.one_at_a_time:
            setting.tell(f"{begun.runs[0].strategy}: its runs were begun together, and start over one at a time")
        else:
            carry_out(begun.runs, begun)
    for runs in bundled(plan.runs, setting):
        left = [run for run in runs if run.name not in records]
        alone = {run: some for run in left if (some := begun_alone(run, directory, setting.tell)) is not None}
        if new := [run for run in left if run not in alone]:
            carry_out(new)
        for run in left:
            if run.name not in records:
                carry_out([run], alone.get(run))
    return [records[run.name] for run in plan.runs]


def _failed(
    run: RunPlan, setting: StudySetup, directory: RunDirectory, watchers: Watchers, failure: Exception
) -> dict[str, Any]:
    """Write a run that an exception ended."""
    path = directory.write_failure(run.name, failure)
    setting.tell(f"{run.name} failed: {one_line(failure)} (traceback: {path})")
    result, error = Result.of_failure(""), f"{type(failure).__name__}: {failure}"
    plain = record_of(run, result, setting, error, str(path.relative_to(directory.path)))
    record = directory.append(plain, result.history, dict)
    watchers.end(run, record)
    return record
