"""Carries out a plan run by run; finished runs are not repeated, and a run that fails does not end the study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtl.strategies import make
from mtl.study.plan import Plan, RunPlan
from mtl.study.rundir import RunDirectory
from mtl.study.setting import Observer, Setting, record_of
from mtl.study.together import Begun, checkpoint_of, execute_together, grouped, populations_begun
from mtl.study.watchers import Watchers, one_line
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
    watchers = Watchers(observers, directory, setting.tell)

    def together(runs: list[RunPlan], begun: Begun | None = None) -> None:
        for record in _execute_several(runs, setting, directory, watchers, should_stop, begun):
            records[record["run"]] = record

    for begun in populations_begun(plan.runs, directory, setting.tell):
        if all(run.name in records for run in begun.runs):
            begun.path.unlink()
        elif setting.one_at_a_time:
            setting.tell(f"{begun.runs[0].strategy}: its runs were begun together, and start over one at a time")
        else:
            together(begun.runs, begun)
    for runs in grouped(plan.runs, setting):
        left = [run for run in runs if run.name not in records]
        new = [run for run in left if not directory.checkpoint(run.name).exists()]  # the others were begun alone
        if len(new) > 1 and not setting.one_at_a_time:
            together(new)
        for run in runs:
            if run.name not in records:
                records[run.name] = _execute_one(run, setting, directory, watchers, should_stop)
    return [records[run.name] for run in plan.runs]


def _execute_several(
    runs: list[RunPlan],
    setting: Setting,
    directory: RunDirectory,
    watchers: Watchers,
    should_stop: Callable[[], bool],
    begun: Begun | None,
) -> list[dict[str, Any]]:
    """Their records; none where they fail together, so that each is tried by itself."""
    try:
        return execute_together(runs, setting, directory, watchers, should_stop, begun)
    except (Stopped, OSError):
        raise
    except Exception as failure:  # as below: what one run raises must not take the others with it
        reason = one_line(failure)
        setting.tell(f"{runs[0].strategy}: its runs failed together and are tried one at a time ({reason})")
        (begun.path if begun is not None else checkpoint_of(runs, directory)).unlink(missing_ok=True)
        return []


def _execute_one(
    run: RunPlan,
    setting: Setting,
    directory: RunDirectory,
    watchers: Watchers,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    strategy = make(run.strategy)
    watchers.begin(run, {"spec": run.strategy, **strategy.hyperparameters})
    tasks = [task for task in setting.benchmark.tasks if run.task in (None, task.name)]
    error = traceback = None
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
            progress=lambda done, total: watchers.progress(run, done, total),
            observe=lambda step, values: watchers.row(run, step, values),
            should_stop=should_stop,
            tell=setting.tell,
        )
    except (Stopped, OSError):
        raise
    except Exception as failure:  # a strategy or a user's model may raise anything; the study records it and goes on
        error = f"{type(failure).__name__}: {failure}"
        path = directory.write_failure(run.name, failure)
        traceback = str(path.relative_to(directory.path))
        setting.tell(f"{run.name} failed: {one_line(failure)} (traceback: {path})")
        result = Result("failed", {}, {}, float("nan"), 0, {}, {}, {})
    plain, _ = record_of(run, result, setting.benchmark.name, error, traceback)
    record = directory.append(plain, result.history, lambda: result.weights or {})
    watchers.end(run, record)
    return record
