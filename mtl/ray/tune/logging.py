"""Logs an experiment of Ray Tune to W&B from one process of our own: a run a trial, and one for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from mtl.ray.tune.mirror import Mirror
from mtl.ray.tune.results import result_dir, search_by_tune
from mtl.search.space import Space
from mtl.search.space.dimension import Dimension
from mtl.search.space.parameters import Choice
from mtl.study.rundir import RunDirectory
from mtl.tracking import SearchTracker, Tracker
from mtl.tracking.client import check_mode
from mtl.wandb_mode import usual_mode


def callback(wandb: str | None = None) -> tune.Callback:
    """A callback for `tune.RunConfig(callbacks=[...])` with trials of `mtl.ray.trainable`.

    W&B's files go to `mtl/wandb` in the directory of the experiment, and the files of a run directory to `mtl`. Metrics
    and the values in use are logged at each report, at the end a table of who took over whom.

    Args:
        wandb: `offline` (needs no account and no network), `online` or `disabled`; None for what `WANDB_MODE` says, or
            `offline`.

    Raises:
        ValueError: there is no such mode, or it is `online` and W&B is not installed.
    """
    mode = usual_mode() if wandb is None else wandb
    check_mode(mode)
    return Logging(mode)


class Logging(tune.Callback):
    """Opens the log at the first report, because the experiment and its benchmark are known only then."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._mirror: Mirror | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The mode alone: a restored experiment is logged anew."""
        return {"_mode": self._mode, "_mirror": None}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Trial, result: Any, **more: Any) -> None:
        if self._mirror is None:
            self._open(trial, trials)
        assert self._mirror is not None
        self._mirror.on_trial_result(iteration, trials, trial, result, **more)

    def on_experiment_end(self, trials: Sequence[Any], **_: Any) -> None:
        if self._mirror is None:
            return
        search = self._mirror.search
        folders = [Path(trial.checkpoint.path) for trial in trials if trial.checkpoint is not None]
        result_dir(folders, self._folder)
        records = RunDirectory(self._folder).records()
        for record in records:
            self._log.trial(search, record)
        search.standing = search.standing.ended({record["trial"]: record["status"] for record in records})
        search.evaluations = {}
        self._log.segment(search)
        self._log.close()
        self._tracker.close()
        self._mirror = None

    def _open(self, trial: Trial, trials: Sequence[Any]) -> None:
        about = trial.get_trainable_cls().about
        assert trial.storage is not None
        experiment = Path(trial.storage.experiment_fs_path)
        self._folder = experiment / "mtl"
        self._folder.mkdir(exist_ok=True)
        setting = about.setting(trains=False)
        space = Space({"strategy": Dimension(Choice((about.strategy,)))})
        search = search_by_tune(about, setting, "tune", len(trials), 1, space, 0)
        config = {"study": experiment.name, "benchmark": about.benchmark}
        self._tracker = Tracker(self._mode, self._folder, config, print)
        self._log = SearchTracker(self._tracker, RunDirectory(self._folder), setting.benchmark.name)
        self._mirror = Mirror(search, [self._log])
