"""`mtl search --engine tune`: Ray Tune's trials, schedulers and searchers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mtl.cli.engine import Engine, on_ray
from mtl.cli.errors import BadInput, Failed
from mtl.cli.options import SearchOptions
from mtl.cli.shared import tell
from mtl.ray.tune.asked import scheduler_of, searcher_of
from mtl.search.search import Search, SearchObserver
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.study.watchers import one_line
from mtl.train import Stopped

if TYPE_CHECKING:
    from mtl.ray.tune.driver import TuneOptions

#: Read by Ray when it is imported: no output and files of its own, and the working directory stays the command's.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # so much of a search is lost with its driver
    "TUNE_WARN_THRESHOLD_S": "60",
}


class TuneEngine(Engine):
    """A trial of Ray Tune for each member, or with --shards for each shard of members."""

    def __init__(self, options: SearchOptions, setting: StudySetup) -> None:
        super().__init__(setting)
        self._options, self._setting = options, setting
        self._scheduler = scheduler_of(options.scheduler, options.shards)
        self._searcher = searcher_of(options.searcher, self._scheduler)
        chosen = {"scheduler": self._scheduler, "searcher": self._searcher, "shards": options.shards}
        names = [n for n in (self._scheduler, self._searcher) if n not in ("none", "random")]
        own = options.method if options.shards else "random"
        self.about = {"method": "+".join(dict.fromkeys(names)) or own, "engine": "tune", **chosen}
        self._gpus = 0.0

    def __enter__(self) -> TuneEngine:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with contextlib.ExitStack() as stack:
            stack.enter_context(on_ray(self._options))
            self._gpus = self._lent()
            self._open = stack.pop_all()
        return self

    def run(
        self,
        make: Callable[[], Search],
        directory: RunDirectory,
        benchmark: str,  # noqa: ARG002
        observers: Sequence[SearchObserver],
        should_stop: Callable[[], bool],
    ) -> list[dict[str, Any]]:
        """Carry out the search that `make` gives, or what is left of it."""
        from mtl.ray.tune.driver import Unshared, carry_out
        from mtl.ray.tune.results import write_results

        search = make()
        options = search.method.options
        trainable = self._trainable(search)
        try:
            folders, errors, unfinished = carry_out(
                trainable, self._tune_options, search, options, directory.path, observers, should_stop
            )
        except Unshared as error:
            raise BadInput(str(error)) from error
        if errors:
            path = directory.write_failure("tune", errors[0])
            tell(f"{len(errors)} trials were lost, the first with {one_line(errors[0])} (traceback: {path})")
        if unfinished:  # their numbers are known once all have ended
            raise Stopped
        records = write_results(directory, folders, search, self._setting) if folders else directory.records()
        if failed := [record for record in records if record.get("traceback")]:
            first = failed[0]
            tell(
                f"{len(failed)} of {len(records)} runs failed, the first, {first['run']}, with {first['error']} "
                f"(traceback: {directory.path / first['traceback']})"
            )
        if not records:
            raise Failed(f"no trial was trained; see {directory.path / 'tune'}")
        self._conclude(search, records, observers)
        return records

    def _conclude(self, search: Search, records: Sequence[dict[str, Any]], observers: Sequence[SearchObserver]) -> None:
        """Tell the observers what has become of the trials, in the order in which they are recorded."""
        seeds, statuses = {trial.seed: trial for trial in search.trials}, {}
        for record in records:
            if record["seed"] in seeds and not self._options.shards:
                number = seeds[record["seed"]].number
                statuses[number] = record["status"]
                for observer in observers:
                    observer.trial(search, {**record, "trial": number})
        search.standing, search.evaluations = search.standing.ended(statuses), {}
        if not search.trials:
            return  # all had ended before this process began
        for observer in observers:
            observer.segment(search)

    @property
    def _tune_options(self) -> TuneOptions:
        from mtl.ray.tune.driver import TuneOptions

        return TuneOptions(self._scheduler, self._searcher, self._options.shards, self._gpus)

    def _trainable(self, search: Search) -> Any:
        import mtl.ray

        asked, options = self._options, search.method.options
        if asked.shards and options.members % asked.shards:
            raise BadInput(f"--shards {asked.shards}: {options.members} members do not divide into so many")
        made = mtl.ray.trainable(
            asked.subject,
            strategy=search.problem.space.dimensions["strategy"].parameter.grid(1)[0],
            settings=self._setting.settings,
            members=options.members // asked.shards if asked.shards else 1,
            method=asked.method or "pbt",
            objective=search.objective,
            device="cuda" if self._gpus else "cpu",
            keep_models=asked.keep_models,
        )
        made.ends_on_failure = True
        if asked.shards:
            made.space = search.problem.space
        return made

    def _lent(self) -> float:
        """GPUs of a trial."""
        from mtl.ray.cluster import gpus, nodes

        wanted = self._options.gpus_per_trial
        if wanted is None:
            return 1.0 if self._options.device != "cpu" and gpus() > 0 else 0.0
        most = max((float(node["Resources"].get("GPU", 0)) for node in nodes()), default=0.0)
        if wanted > most:
            raise ValueError(f"--gpus-per-trial {wanted:g}: the node of the Ray cluster with most GPUs has {most:g}")
        return float(wanted)
