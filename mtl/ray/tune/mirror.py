"""Watches an experiment of Ray Tune and shows it as one of our searches, to those who watch these."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from mtl.ray.tune.about import number_of
from mtl.search.engine import Observer, Search, Trial
from mtl.train import Evaluation

_STATES = {TuneTrial.RUNNING: "training", TuneTrial.PAUSED: "waiting", TuneTrial.PENDING: "waiting"}


@dataclass(frozen=True)
class Group:
    """Trials on one node, by their numbers, and what they do."""

    where: str
    members: Sequence[int]
    state: str


class Mirror(tune.Callback):
    """Fills in a search with what the trials report.

    Args:
        search: that Tune carries out.
        observers: told after each report.
        should_stop: asked now and then; the experiment is then saved and left.
    """

    def __init__(
        self,
        search: Search,
        observers: Sequence[Observer] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.search, self._observers, self._should_stop = search, observers, should_stop
        #: Whether trials are left that have not ended.
        self.unfinished = False
        self._numbers: dict[str, int] = {}
        self._nodes: dict[str, str] = {}  # that reported last; Tune forgets that of a trial that waits
        self._exploits: dict[str, int] = {}
        self._steps: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: a restored experiment is watched anew."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: TuneTrial, result: Any, **_: Any) -> None:  # noqa: ARG002
        run, search = self._run(trial), self.search
        run.step, run.values = int(result["steps"]), dict(result.get("hyperparameters") or {})
        search.tally.steps += run.step - self._steps.get(trial.trial_id, 0)
        self._steps[trial.trial_id] = run.step
        search.tally.exploits += result["exploits"] - self._exploits.get(trial.trial_id, 0)
        self._exploits[trial.trial_id] = result["exploits"]
        score = float(result["objective"])
        metrics, curves = result["metrics"], result.get("curves") or {}
        seen = Evaluation(
            float(result["selection"]),
            metrics,
            bool(result["finite"]) and math.isfinite(score),
            curves,
            result.get("failure", ""),
        )
        run.hear(seen, (score if seen.finite else -math.inf,), search.tally.steps)
        search.evaluations = {run.number: seen}
        search.tally.best.append((search.tally.steps, -math.inf if search.best is None else search.best[1].scores[0]))
        self._nodes[trial.trial_id] = str(result.get("node_ip", ""))
        search.elsewhere = self._places(trials)
        for observer in self._observers:
            observer.segment(search)

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **_: Any) -> None:  # noqa: ARG002
        self.unfinished = any(not trial.is_finished() for trial in trials)
        if self._should_stop():
            signal.raise_signal(signal.SIGUSR1)  # at which Tune saves all and leaves

    def _places(self, trials: Sequence[TuneTrial]) -> tuple[Group, ...]:
        found: dict[tuple[str, str], list[int]] = {}
        for trial in trials:
            if trial.trial_id in self._nodes:
                place = (self._nodes[trial.trial_id], _STATES.get(trial.status, "ended"))
                found.setdefault(place, []).append(self._numbers[trial.trial_id])
        return tuple(Group(where, numbers, state) for (where, state), numbers in sorted(found.items()))

    def _run(self, trial: TuneTrial) -> Trial:
        number = self._numbers.get(trial.trial_id)
        if number is None:
            number = self._numbers[trial.trial_id] = len(self._numbers)
            self.search.trials.append(Trial(number, int(trial.config.get("seed", number_of(trial.trial_id))), {}))
            self.search.alive.append(self.search.trials[-1])
        return self.search.trials[number]
