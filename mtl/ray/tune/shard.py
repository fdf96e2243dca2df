"""A trial of Ray Tune that is a shard: runs trained as one program, which search among themselves."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mtl.ray.tune.about import STATE, number_of
from mtl.ray.tune.space import check_names, space_of
from mtl.ray.tune.trial import OurTrial
from mtl.search.methods import OPTIONS, MethodOptions
from mtl.search.plan import make_search
from mtl.search.search import Search
from mtl.search.space import Space
from mtl.study.models import Models
from mtl.study.rundir import RunDirectory
from mtl.train import Result
from mtl.train import checkpoint as checkpoints

#: What the configuration of a trial may hold beside ranges of values.
OWN = ("seed", "first_seed", *(name for name in OPTIONS if name != "members"))
_FILES = ("results.jsonl", "schedule.jsonl", "history", "checkpoints")


class ShardTrial(OurTrial):
    """A trial that is a whole search of ours. Each step of Tune is a segment of all its runs.

    The configuration of the trial is the space of its search, as on the command line. A value such as 0.001 holds for
    all its runs; a range such as "1e-4:1e-2:log" is searched among them.

    Attributes:
        space: in place of what a configuration says of it; words do not say what is not to be searched.
    """

    space: ClassVar[Space | None] = None

    def setup(self, config: dict[str, Any]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mtl-shard-", dir=self.logdir))
        super().setup(config)

    def segment(self) -> dict[str, Any]:
        next(self._segments)
        search, best = self._search, self._search.best
        metrics: dict[str, Any] = {}
        objective, values = -math.inf, {}
        if best is not None:
            _, found = best
            objective, values, metrics = found.scores[0], found.values, dict(found.metrics)
        finite = [each.selection for each in search.evaluations.values() if each.finite]
        return {
            **metrics,
            "metrics": metrics,
            "selection": max(finite, default=-math.inf),
            "objective": objective,
            **self.ended(),
            "members": len(search.alive),
            "finite": bool(finite),
            "replaced_nonfinite": search.totals.replaced_nonfinite,
            "hyperparameters": values,
            "done": not search.alive,
            "should_checkpoint": True,
        }

    def ended(self) -> dict[str, Any]:
        return {"steps": self._search.totals.steps, "exploits": self._search.totals.exploits, "hyperparameters": {}}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if self.failure is not None:
            self._record_failed(self.failure["error"])
        content = {"trial": self.trial_id, "about": self.about.state_dict(), "failure": self.failure}
        checkpoints.save(Path(checkpoint_dir) / STATE, content)
        _copy(self._folder, Path(checkpoint_dir))

    def restore_from(self, folder: Path) -> None:
        saved = checkpoints.load(folder / STATE)
        if saved is None:
            raise ValueError(f"checkpoint {folder / STATE} cannot be read")
        if saved["trial"] != self.trial_id:
            raise ValueError("trials of several members search by themselves: no scheduler such as PBT copies them")
        _copy(folder, self._folder)
        self.failure = saved.get("failure")
        self._search, self._segments = self._made()

    def cleanup(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def begin(self, config: dict[str, Any]) -> None:
        check_names(config, OWN, [task.name for task in self.setting.benchmark.tasks])
        number = number_of(self.trial_id)
        self._seed = int(config.get("seed", int(config.get("first_seed", 0)) + number * self.about.members))
        given = {name: value for name, value in config.items() if name not in OWN and value is not None}
        self._space = self.space or space_of(self.setting.benchmark, [self.about.strategy], given)
        options = {name: config[name] for name in OPTIONS if config.get(name) is not None}
        self._options = MethodOptions(members=self.about.members, **options)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._search, self._segments = self._made()

    def _record_failed(self, error: str) -> None:
        """Write the runs that were under way as failed."""
        directory, search = RunDirectory(self._folder), self._search
        written = {record["run"] for record in directory.records()}
        for trial in search.alive:
            if search.run_name(trial.number) not in written:
                directory.append(*search.record(trial, Result.of_failure(error), self.setting.benchmark.name))

    def _made(self) -> tuple[Search, Iterator[None]]:
        about = self.about
        search = make_search(self.setting, about.method, self._options, self._space, about.objective, self._seed)
        directory = RunDirectory(self._folder)
        directory.models = Models(self._folder, about.keep_models, about.objective.higher_is_better())
        return search, search.segments(directory, self.setting.benchmark.name, should_stop=self._asked)

    def _asked(self) -> bool:
        """Whether a segment is to end early, which none is; how far losses are that learn before training is said."""
        self.say_learned(self._search.learned)
        return False


def _copy(source: Path, target: Path) -> None:
    for name in _FILES:
        path, new = source / name, target / name
        if path.is_dir():
            shutil.copytree(path, new, dirs_exist_ok=True)
        elif path.exists():
            shutil.copyfile(path, new)
