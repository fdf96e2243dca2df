"""Population-based training for Ray Tune that decides as our own searches do."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.result import TRIAL_ID
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from mtl.ray.tune.about import number_of
from mtl.ray.tune.space import Mutations, explored
from mtl.search.methods import MethodOptions, Problem, Report, find_method
from mtl.search.methods.pbt import PBT
from mtl.search.space import Values
from mtl.search.space.to_tune import NONE, in_words

_MANY = 10**6  # intervals, where the length of a run is not known
_WAITING = (Trial.PENDING, Trial.PAUSED)
_KEPT = ("seed",)  # of a trial's configuration, whatever it takes over


class TunePBT(PopulationBasedTraining):
    """Ray Tune's `PopulationBasedTraining` with the decisions of `mtl search --method pbt` (or pb2). It is
    `mtl.ray.PBT`.

    It differs from Ray Tune's own in this:

    * A trial keeps its `seed`. * A trial whose metric is not finite counts as the worst, and is replaced. * New values
    stay within their bounds, and respect what exists only beside some choices (see `mtl.ray.mutations`). * After a
    restore, or when a trial died, it goes on with the scores that the trials had. * Equal seeds give equal decisions.

    Trials pause after each interval, so all must be able to save and to restore.

    Args:
        time_attr: name of the reported value that time is measured by.
        metric: name of the reported value that is compared, unless the `TuneConfig` has it.
        mode: `max` or `min`, unless the `TuneConfig` has it.
        perturbation_interval: time between decisions; with `training_iteration` and 1, every report.
        burn_in_period: time from the start in which no trial is replaced unless it broke.
        hyperparam_mutations: of `mtl.ray.mutations`, or ranges such as `tune.uniform(0, 1)` and lists.
        quantile_fraction: share of the trials that is replaced.
        resample_probability: probability that a value is drawn anew.
        synch: whether to wait for all trials. Otherwise a trial is ranked against what the others last reported.
        seed: all decisions follow from it.
        method: `pbt`, or `pb2`, which chooses numbers by a Gaussian process.
        length: time of a whole run, which pb2 wants.

    Raises:
        ValueError: mutations without bounds, or options out of range; one line.
    """

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 1,
        burn_in_period: float = 0,
        hyperparam_mutations: Mapping[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        resample_probability: float = 0.25,
        synch: bool = True,
        *,
        seed: int = 0,
        method: str = "pbt",
        length: int | None = None,
    ) -> None:
        if not hyperparam_mutations:
            raise ValueError("hyperparam_mutations is empty: PBT explores at least one parameter")
        self._space = explored(hyperparam_mutations)
        self._ours = isinstance(hyperparam_mutations, Mutations)
        super().__init__(
            time_attr=time_attr,
            metric=metric,
            mode=mode,
            perturbation_interval=perturbation_interval,
            custom_explore_fn=dict,
            quantile_fraction=quantile_fraction,
            resample_probability=resample_probability,
            log_config=False,
            synch=synch,
        )
        options = MethodOptions(
            members=2,
            quantile=quantile_fraction,
            resample=resample_probability,
            burn_in=int(burn_in_period),
            asynchronous=not synch,
        )
        interval = max(1, int(perturbation_interval))
        problem = Problem(self._space, length or interval * _MANY, interval, seed)
        cls = find_method(method)
        if not issubclass(cls, PBT):
            raise ValueError(f"method={method!r}: must be pbt or pb2")
        self._decides = cls(problem, options)
        #: The last report of each trial; those that no decision has dealt with yet; when each had its last one.
        self._reports: dict[str, Report] = {}
        self._due: set[str] = set()
        self._dealt: dict[str, float] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        self._fill(trial)
        result = trial.last_result
        self._due.discard(trial.trial_id)
        if trial.is_finished():
            return
        if self._metric in result and self._time_attr in result:  # it is restored, and will report again
            self._hear(trial, result)
            if self._synch and self._undecided(trial):
                self._due.add(trial.trial_id)
                _rest(_whole(tune_controller), trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        for name in (self._metric, self._time_attr):
            if name not in result:
                raise RuntimeError(f"PBT: {name!r} is not in the result of trial {trial}: {', '.join(result)}")
        time = result[self._time_attr]
        self._hear(trial, result)
        # Time goes back where a trial takes over one that is behind.
        if 0 <= time - self._dealt.get(trial.trial_id, 0) < self._perturbation_interval:
            return str(TrialScheduler.CONTINUE)
        self._due.add(trial.trial_id)
        if any(t.status in _WAITING and t.trial_id not in self._due for t in tune_controller.get_trials()):
            return str(TrialScheduler.PAUSE)  # which saves it first, and gives its process to another trial
        if not result.get("should_checkpoint"):
            _whole(tune_controller)._schedule_trial_save(trial)
        return str(TrialScheduler.NOOP)  # nobody else can use its process now, and Tune would end it

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, trial, result)
        self._forget(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_error(tune_controller, trial)
        self._due.discard(trial.trial_id)  # one that will be tried again is added again
        self._reports.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_remove(tune_controller, trial)
        self._forget(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Decide, if all that must be heard of are at rest; then the trial that is furthest behind."""
        controller = _whole(tune_controller)
        trials = {t.trial_id: t for t in controller.get_trials() if not t.is_finished()}
        resting = {name for name in self._due if name in trials and _rests(trials[name])}
        if self._synch:
            latest = max(map(self._reached, controller.get_trials()), default=0)
            # After a restore some may be behind: they catch up, the others wait.
            behind = {name for name in resting if self._reports[name].step < latest}
            self._go_on(controller, trials, behind, set())
            whole = controller.search_alg.is_finished() and resting - behind == set(trials)
            resting = set(trials) if whole else set()
        if resting:
            self._go_on(controller, trials, resting, self._decide(trials, resting))
        free = [t for name, t in trials.items() if name not in self._due and t.status in _WAITING]
        # Tune asks for the actor of one trial at a time: of equals first those for which it has not.
        return min(free, key=lambda t: (self._time_of(t), t.status == Trial.PENDING), default=None)

    def _decide(self, trials: Mapping[str, Trial], arrived: set[str]) -> set[str]:
        """Hand over states among trials at rest; the names of those that took one over."""
        names = {number_of(name): name for name in trials}
        reports = sorted((self._reports[name] for name in arrived), key=lambda report: report.trial)
        changed = set()
        for exploit in self._decides.decide(reports).exploits:
            target, source = names[exploit.target], names.get(exploit.source)
            if source is not None and trials[source].latest_checkpoint_result is not None:
                self._hand_over(trials[target], trials[source], exploit.values)
                changed.add(target)
        return changed

    def _go_on(self, controller: Any, trials: Mapping[str, Trial], names: set[str], changed: set[str]) -> None:
        """Let trials at rest be run: those that still have a process in it, the others when there is one."""
        for name in sorted(names):
            trial = trials[name]
            self._dealt[name] = self._reports[name].step
            if name in changed:
                controller._mark_trial_to_checkpoint(trial)  # with what it was given
            if trial.status != Trial.RUNNING:
                continue
            if name not in changed:
                controller._schedule_trial_train(trial)
            elif controller._reuse_actors:
                controller._staged_trials.add(trial)  # as Tune does of a trial that is given another's process
                controller._actor_cache.increase_max(trial.placement_group_factory)
                controller._schedule_trial_reset(trial, trial.config, trial.experiment_tag)
            else:
                controller.pause_trial(trial, should_checkpoint=False)
        self._due -= names

    def _hand_over(self, target: Trial, source: Trial, values: Values) -> None:
        """Let `target`, which is paused, go on from the newest checkpoint of `source` with new values."""
        kept = {name: target.config[name] for name in _KEPT if name in target.config}
        absent = dict.fromkeys(name for name in self._space.dimensions if name in source.config)
        target.set_config({**copy.deepcopy(source.config), **absent, **self._written(values), **kept})
        manager: Any = target.run_metadata.checkpoint_manager
        manager._latest_checkpoint_result = copy.copy(source.latest_checkpoint_result)
        target.invalidate_json_state()
        target.run_metadata.invalidate_cache()  # or a driver that is lost leaves the new values with the old state
        self._num_perturbations += 1

    def _hear(self, trial: Trial, result: Mapping[str, Any]) -> None:
        assert self._metric is not None and self._metric_op is not None
        score = self._metric_op * float(result[self._metric])
        score = score if math.isfinite(score) else -math.inf
        values = self._values_of(trial)
        values = {name: values[name] for name, _ in self._space.active(values) if name in values}
        time = math.floor(result[self._time_attr])
        finished = bool(result.get("done"))
        self._reports[trial.trial_id] = Report(number_of(trial.trial_id), time, values, (score,), finished)
        self._trial_state[trial].last_score = score
        self._trial_state[trial].last_train_time = time

    def _fill(self, trial: Trial) -> None:
        """Give a trial the values that its configuration lacks."""
        own = self._values_of(trial)
        rng = self._decides.problem.rng(0, number_of(trial.trial_id))
        missing = self._written({n: v for n, v in self._space.completed(own, rng).items() if n not in own})
        trial.config.update(missing)
        trial.evaluated_params.update(missing)

    def _values_of(self, trial: Trial) -> Values:
        """What a trial's configuration holds, but for what does not exist in it."""
        if not self._ours:
            return {name: value for name, value in trial.config.items() if value is not None or self._may_be_none(name)}
        held = {name: value for name, value in trial.config.items() if value is not None}
        return {name: None if value == NONE and self._may_be_none(name) else value for name, value in held.items()}

    def _written(self, values: Values) -> Values:
        """Values as a configuration holds them."""
        return {name: in_words(value) for name, value in values.items()} if self._ours else values

    def _may_be_none(self, name: str) -> bool:
        dimension = self._space.dimensions.get(name)
        return dimension is not None and None in getattr(dimension.parameter, "choices", ())

    def _undecided(self, trial: Trial) -> bool:
        """Whether a restored trial is to wait for a decision before it goes on.

        What was decided before a driver was lost is known of those alone that had been given another's state, and to
        decide again that nothing happens gives the same.
        """
        step, saved = self._reports[trial.trial_id].step, trial.latest_checkpoint_result
        if saved is None or step % self._perturbation_interval or self._dealt.get(trial.trial_id) == step:
            return False
        return bool(saved.metrics.get(TRIAL_ID) == trial.trial_id and saved.metrics.get(self._time_attr) == step)

    def _forget(self, trial: Trial) -> None:
        self._due.discard(trial.trial_id)
        self._reports.pop(trial.trial_id, None)

    def _reached(self, trial: Trial) -> int:
        """The time of a trial's last report, which one that has ended has too."""
        return int(trial.run_metadata.last_result.get(self._time_attr, 0))

    def _time_of(self, trial: Trial) -> float:
        report = self._reports.get(trial.trial_id)
        return -1 if report is None else report.step

    def debug_string(self) -> str:
        return f"PBT: {self._num_perturbations} exploits"


def _whole(tune_controller: Any) -> Any:
    """The controller itself: schedulers are given one that warns of what Tune's own schedulers use."""
    return getattr(tune_controller, "_tune_controller", tune_controller)


def _rest(controller: Any, trial: Trial) -> None:
    """Let a trial that would be run by itself wait for the scheduler."""
    if trial in controller._pending_trials:
        controller._set_trial_status(trial, Trial.PAUSED)
    else:  # it is being added
        trial.set_status(Trial.PAUSED)


def _rests(trial: Trial) -> bool:
    """Whether a trial that reported is saved and does nothing."""
    return trial.status == Trial.PAUSED or (trial.status == Trial.RUNNING and not trial.is_saving)
