"""Shows an experiment of Ray Tune as one of our searches, so that terminal and tracker can watch it alike."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from mtl.ray.tune.about import number_of
from mtl.ray.tune.left import Unrestored
from mtl.ray.tune.trial import LEARNING
from mtl.search.cohort import Place
from mtl.search.search import Search, SearchObserver
from mtl.search.trial import Trial
from mtl.train import Evaluation

_STATES = {TuneTrial.RUNNING: "training", TuneTrial.PAUSED: "waiting", TuneTrial.PENDING: "waiting"}


_SECONDS = 1.0  # from one look at what trials say of losses that learn before training to the next


class Mirror(tune.Callback):
    """A callback of Tune that keeps a search up to date with what the trials report.

    Args:
        search: that Tune carries out.
        observers: told after each report.
        should_stop: asked now and then. If it says so, the experiment is saved and left.
    """

    def __init__(
        self,
        search: Search,
        observers: Sequence[SearchObserver] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.search, self._observers, self._should_stop = search, observers, should_stop
        #: Whether trials are left that have not ended.
        self.unfinished = False
        self._numbers: dict[str, int] = {}
        self._nodes: dict[str, str] = {}  # that reported last; Tune forgets that of a trial that waits
        self._exploits: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._looked = -math.inf
        self._expected = frozenset[str]()

    def expect(self, trials: frozenset[str]) -> None:
        """Have the experiment go on with these trials, by their names; `Unrestored` where Tune does not."""
        self._expected = trials

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: a restored experiment is watched anew."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: TuneTrial, result: Any, **_: Any) -> None:  # noqa: ARG002
        search, number = self.search, self._number(trial)
        before = search.trials[number]
        steps, score = int(result["steps"]), float(result["objective"])
        seen = Evaluation(
            float(result["selection"]),
            result["metrics"],
            bool(result["finite"]) and math.isfinite(score),
            result.get("curves") or {},
            result.get("failure", ""),
        )
        more = steps - self._steps.get(trial.trial_id, 0)
        self._steps[trial.trial_id] = steps
        exploits = result["exploits"] - self._exploits.get(trial.trial_id, 0)
        self._exploits[trial.trial_id] = result["exploits"]
        run = dataclasses.replace(before, values=dict(result.get("hyperparameters") or {}))
        scores = (score if seen.finite else -math.inf,)
        run = run.evaluated(steps, seen, scores, search.totals.steps + more)
        search.standing = search.standing.counted(exploits=exploits).trained([run], more)
        search.evaluations = {number: seen}
        self._nodes[trial.trial_id] = str(result.get("node_ip", ""))
        search.elsewhere = self._places(trials)
        for observer in self._observers:
            observer.segment(search)

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **_: Any) -> None:  # noqa: ARG002
        expected, self._expected = self._expected, frozenset()
        if expected - {trial.trial_id for trial in trials}:
            raise Unrestored

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **_: Any) -> None:  # noqa: ARG002
        self.unfinished = any(not trial.is_finished() for trial in trials)
        if (now := time.monotonic()) - self._looked >= _SECONDS:
            self._looked, self.search.learned_elsewhere = now, _learned(trials)
        if self._should_stop():
            signal.raise_signal(signal.SIGUSR1)  # at which Tune saves all and leaves

    def _places(self, trials: Sequence[TuneTrial]) -> tuple[Place, ...]:
        found: dict[tuple[str, str], list[int]] = {}
        for trial in trials:
            if trial.trial_id in self._nodes:
                place = (self._nodes[trial.trial_id], _STATES.get(trial.status, "ended"))
                found.setdefault(place, []).append(self._numbers[trial.trial_id])
        return tuple(Place(where, tuple(numbers), state) for (where, state), numbers in sorted(found.items()))

    def _number(self, trial: TuneTrial) -> int:
        """The number of the run that a trial is; one that is new begins."""
        number = self._numbers.get(trial.trial_id)
        if number is None:
            number = self._numbers[trial.trial_id] = len(self._numbers)
            run = Trial(number, int(trial.config.get("seed", number_of(trial.trial_id))), {})
            self.search.standing = self.search.standing.begun([run])
        return number


def _learned(trials: Sequence[TuneTrial]) -> tuple[int, int] | None:
    """How far losses of the trials are that learn before training, steps made and all; None where none is."""
    made = steps = 0
    for trial in trials:
        if trial.status != TuneTrial.RUNNING or trial.storage is None:
            continue
        try:
            own = json.loads((Path(trial.storage.trial_fs_path) / LEARNING).read_text(encoding="utf-8"))
        except OSError:  # nothing is learned there, or not any more, or it is stored where no file is seen
            continue
        made, steps = made + own[0], steps + own[1]
    return (made, steps) if made < steps else None
