"""A trial of Ray Tune that is one run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from mtl.files.lineage import Event
from mtl.ray.tune.about import STATE, number_of
from mtl.ray.tune.space import check_names, from_config
from mtl.ray.tune.trial import OurTrial
from mtl.search.plan import cohort_maker, default_interval, run_length
from mtl.search.space import Values, make_member
from mtl.search.trial import Trial, better_of
from mtl.train import Member
from mtl.train import checkpoint as checkpoints

#: What the configuration of a trial may hold beside values of a run.
OWN = ("seed", "first_seed", "interval")


class MemberTrial(OurTrial):
    """A trial that is one run, a `Cohort` of one. Each step of Tune is a segment of training.

    Given the checkpoint of another trial, it takes that one over as in our own searches: it gets the other's parameters
    and the states of its optimizer and strategy, and keeps its own seed, order of data, random numbers and number of
    steps.
    """

    _run: Trial
    _cohort: Any

    def segment(self) -> dict[str, Any]:
        steps = min(self._interval, self.length - self._run.step)
        while self._cohort.begin():
            self.say_learned(self._cohort.learning)
        self.say_learned(None)
        self._cohort.advance(steps)
        (evaluation,) = self._cohort.evaluate()
        scores, step = self.about.objective.of(evaluation), self._run.step + steps
        self._run = run = self._run.evaluated(step, evaluation, scores, step)
        if run.at_its_best:
            self._cohort.remember([0])
        return {
            **evaluation.metrics,
            "metrics": evaluation.metrics,
            **self.ended(),
            "selection": evaluation.selection if evaluation.finite else -math.inf,
            "objective": scores[0],
            "finite": evaluation.finite,
            "failure": evaluation.failure,
            "curves": evaluation.curves,
            "done": run.step >= self.length,
            "should_checkpoint": True,  # a segment that is reported is saved
        }

    def ended(self) -> dict[str, Any]:
        exploits = sum(event["source"] not in (None, self.trial_id) for event in self._events)
        return {"steps": self._run.step, "exploits": exploits, "hyperparameters": self._run.values}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        content = {
            "trial": self.trial_id,
            "about": self.about.state_dict(),
            "interval": self._interval,
            "run": self._run.state_dict(),
            "events": self._events,
            "failure": self.failure,
            "cohort": None if self.failure else self._cohort.state_dict(),
        }
        checkpoints.save(Path(checkpoint_dir) / STATE, content)

    def restore_from(self, folder: Path) -> None:
        saved = checkpoints.load(folder / STATE)
        if saved is None:
            raise ValueError(f"checkpoint {folder / STATE} cannot be read")
        if saved["trial"] == self.trial_id:
            self._continue(saved)
            if self.failure is None and self._run.values != self._wanted:
                self._change(self.trial_id, self._run.step, None)
        else:
            self._take_over(saved)

    def begin(self, config: dict[str, Any]) -> None:
        self.length = run_length(self.setting)
        tasks = [task.name for task in self.setting.benchmark.tasks]
        check_names(config, OWN, tasks)
        values = {"strategy": self.about.strategy} | {n: v for n, v in config.items() if n not in OWN}
        self._wanted: Values = from_config(values)
        number = number_of(self.trial_id)
        seed = int(config["seed"]) if "seed" in config else int(config.get("first_seed", 0)) + number
        self._interval = int(config.get("interval") or default_interval(self.length))
        self._run = Trial(number, seed, dict(self._wanted))
        self._events: list[dict[str, Any]] = [
            _event(Event("", 0, 0, None, seed, None, self._wanted, {}), self.trial_id, None)
        ]
        self._cohort = self._made(make_member(self._wanted, seed))

    def _made(self, member: Member) -> Any:
        return cohort_maker(self.setting)([member])

    def _continue(self, saved: dict[str, Any]) -> None:
        self._run = Trial.restored(saved["run"])
        self._events = list(saved["events"])
        self.failure = saved.get("failure")
        if self.failure is None:
            self._cohort.load_state_dict(saved["cohort"])

    def _take_over(self, saved: dict[str, Any]) -> None:
        own = self._own_newest()
        if own is not None:
            self._continue(own)
        source = self._made(Member(**saved["cohort"]["members"][0]))
        source.load_state_dict(saved["cohort"])
        theirs = Trial.restored(saved["run"])
        kept = better_of(self._run.best, theirs.best)
        self._cohort.adopt(0, source.extract(0), best=kept is not self._run.best)
        self._run = dataclasses.replace(self._run, best=kept)
        self._change(saved["trial"], theirs.step, theirs.scores[0])

    def _change(self, source: str, source_step: int, source_score: float | None) -> None:
        """Go on with the values of the configuration, and note it."""
        run = self._run
        self._cohort.replace({0: make_member(self._wanted, run.seed)})
        score = run.scores[0] if run.scores else None
        scores = {"target": score, "source": score if source == self.trial_id else source_score}
        event = Event("", run.step, 0, 0, run.seed, dict(run.values), self._wanted, scores, source_step)
        self._events = [*self._events, _event(event, self.trial_id, source)]
        self._run = dataclasses.replace(run, values=dict(self._wanted))

    def _own_newest(self) -> dict[str, Any] | None:
        """The trial's own state when it last reported: what it was given is another's."""
        assert self._storage is not None
        # Later ones, which a driver or a process that is gone left, are of segments that are trained again.
        known = self._storage.checkpoint_dir_name
        folders = [path for path in Path(self._storage.trial_fs_path).glob("checkpoint_*") if path.name <= known]
        for folder in sorted(folders, reverse=True):
            saved = checkpoints.load(folder / STATE)
            if saved is not None:
                return saved
        return None


def _event(event: Event, target: str, source: str | None) -> dict[str, Any]:
    """The event with the names of trials in place of their numbers, which only the whole experiment knows."""
    return {**dataclasses.asdict(event), "target": target, "source": source}
