"""Carries out a plan run by run; finished runs are not repeated, and a run that fails does not end the study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtl.strategies import make
from mtl.study.plan import Plan, RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setting import Observer, Setting, record_of
from mtl.study.together import checkpoint_of, execute_together, grouped
from mtl.train import Result, Stopped, train

_FINISHED = ("done", "diverged")


def execute(
    plan: Plan,
    setting: Setting,
    directory: RunDirectory,
    observers: list[Observer],
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train every run of `plan` that `directory` does not hold yet, and return the records of all.

    Raises:
        Stopped: `should_stop` said so; the run in progress is checkpointed.
        OSError: a finished run could not be written; the ones before it are intact.
    """
    records = {record["run"]: record for record in directory.records() if record["status"] in _FINISHED}
    for runs in grouped(plan.runs, setting):
        left = [run for run in runs if run.name not in records]
        alone = [run for run in left if directory.checkpoint(run.name).exists()]  # begun with --one-at-a-time
        together = runs if checkpoint_of(runs, directory).exists() else [run for run in left if run not in alone]
        if left and len(together) > 1 and not setting.one_at_a_time:
            for record in _execute_several(together, setting, directory, observers, should_stop):
                records[record["run"]] = record
        for run in runs:
            if run.name not in records:
                records[run.name] = _execute_one(run, setting, directory, observers, should_stop)
    return [records[run.name] for run in plan.runs]


def _execute_several(
    runs: list[RunPlan],
    setting: Setting,
    directory: RunDirectory,
    observers: list[Observer],
    should_stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Their records; none where they fail together, so that each is tried by itself."""
    try:
        return execute_together(runs, setting, directory, observers, should_stop)
    except (Stopped, OSError):
        raise
    except Exception as failure:  # as below: what one run raises must not take the others with it
        reason = f"{type(failure).__name__}: {failure}".splitlines()[0]
        setting.tell(f"{runs[0].strategy}: its runs failed together and are tried one at a time ({reason})")
        checkpoint_of(runs, directory).unlink(missing_ok=True)
        return []


def _execute_one(
    run: RunPlan,
    setting: Setting,
    directory: RunDirectory,
    observers: list[Observer],
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    strategy = make(run.strategy)
    hyperparameters = {"spec": run.strategy, **strategy.hyperparameters}
    for observer in observers:
        observer.begin(run, hyperparameters)

    def progress(done: int, total: int) -> None:
        for observer in observers:
            observer.progress(run, done, total)

    def row(step: int, values: dict[str, float]) -> None:
        for observer in observers:
            observer.row(run, step, values)

    tasks = [task for task in setting.benchmark.tasks if run.task in (None, task.name)]
    error = None
    try:
        result = train(
            setting.benchmark,
            setting.splits,
            strategy,
            setting.settings,
            seed=run.seed,
            tasks=tasks,
            device=setting.device,
            checkpoint_path=directory.checkpoint(run.name),
            progress=progress,
            observe=row,
            should_stop=should_stop,
        )
    except (Stopped, OSError):
        raise
    except Exception as failure:  # a strategy or a user's model may raise anything; the study records it and goes on
        error = f"{type(failure).__name__}: {failure}"
        result = Result("failed", {}, {}, float("nan"), 0, {}, {}, {})
    plain, _ = record_of(run, result, setting.benchmark.name, error)
    record = directory.append(plain, result.history)
    for observer in observers:
        observer.end(run, record)
    return record
