"""Carries out a search: segments of training on a cohort, and between them what the method decides.

Everything that the next segment depends on is checkpointed after each, so a killed search loses at most one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from mtl.files.lineage import Event, offset_before, write_events
from mtl.search.cohort import Arriving, Cohort, Evaluation, MakeCohort, Place, Scattered
from mtl.search.methods import Decision, Exploit, Method, Problem, Report, Start
from mtl.search.objective import Objective, Scores
from mtl.search.recovery import recovered_state, save_state
from mtl.search.space import Values, make_member
from mtl.study.rundir import RunDirectory
from mtl.train import Result, Stopped
from mtl.train import checkpoint as checkpoints


@dataclass(frozen=True)
class Best:
    """The evaluation of a run whose parameters are kept.

    Attributes:
        trial: number of the run that was evaluated; another than the run that keeps it where it was taken over.
        step: steps that that run had made.
        values: its values then.
        scores: its objectives.
        selection: mean skill of the primary metrics.
        metrics: on validation data, by task and metric.
    """

    trial: int
    step: int
    values: Values
    scores: Scores
    selection: float
    metrics: Mapping[str, Mapping[str, float]]


@dataclass
class Trial:
    """One run of a search, alive or ended.

    Attributes:
        curve: (its own steps, steps of the whole search, scores) at each evaluation.
        best: of all evaluations so far, its own and those that it took over; None before the first finite one.
        status: as recorded, once it has ended.
        informed: as of its `Start`.
    """

    number: int
    seed: int
    values: Values
    step: int = 0
    curve: list[tuple[int, int, Scores]] = field(default_factory=list)
    best: Best | None = None
    status: str = ""
    informed: bool | None = None

    def hear(self, evaluation: Evaluation, scores: Scores, spent: int) -> bool:
        """Add an evaluation at the present step; whether it is now the best.

        It is unless an earlier one is at least as good in every objective: with one objective, if it is better than
        all before.
        """
        before = [found for *_, found in self.curve] + ([self.best.scores] if self.best else [])
        self.curve.append((self.step, spent, scores))
        found = all(map(math.isfinite, scores)) and not any(map(partial(_covers, scores=scores), before))
        if found:
            metrics = {task: dict(values) for task, values in evaluation.metrics.items()}
            self.best = Best(self.number, self.step, dict(self.values), scores, evaluation.selection, metrics)
        return found

    def plain(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**vars(self), "best": self.best and {**vars(self.best)}}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Trial:
        """The inverse of `plain`."""
        return cls(**{**plain, "best": None if plain["best"] is None else Best(**plain["best"])})

    @property
    def broken(self) -> bool:
        """Whether its last evaluation was not finite."""
        return bool(self.curve) and not all(map(math.isfinite, self.curve[-1][2]))


def better_of(own: Best | None, other: Best | None) -> Best | None:
    """What a run that takes over another keeps as its best evaluation: its own if they are equal."""
    return other if own is None or (other is not None and other.scores > own.scores) else own


def _go_on(should_stop: Callable[[], bool]) -> bool:
    """False, for whoever asks whether to stop; otherwise `Stopped`, and nothing is kept of a segment in its midst."""
    if should_stop():
        raise Stopped
    return False


def _covers(other: Scores, scores: Scores) -> bool:
    return all(theirs >= own for theirs, own in zip(other, scores, strict=True))


@dataclass
class Tally:
    """What a search has done so far.

    Attributes:
        steps: optimizer steps of all runs.
        exploits: runs that took over another's state.
        replaced_nonfinite: those of them that were not finite any more.
        best: [steps, score of the best run then] after each segment; the first objective where there are several.
    """

    steps: int = 0
    exploits: int = 0
    replaced_nonfinite: int = 0
    best: list[tuple[int, float]] = field(default_factory=list)


class Observer(Protocol):
    """Whoever watches a search."""

    def segment(self, search: Search) -> None:
        """A segment is trained, evaluated and checkpointed."""

    def trial(self, search: Search, record: dict[str, Any]) -> None:
        """A run ended and is written."""


class Search:
    """One search on one benchmark.

    Args:
        name: of the search: prefix of its runs' names, and of its checkpoint.
        label: the strategy that its runs count for in a report; their own when empty.
        method: decides.
        problem: the space, the length of a run, the seed.
        objective: what counts.
        make_cohort: trains.
        phase: as recorded.
        tell: called with what a user should know.
        task: the only one that its runs train, where they are those of a single-task baseline.
    """

    def __init__(
        self,
        name: str,
        label: str,
        method: Method,
        problem: Problem,
        objective: Objective,
        make_cohort: MakeCohort,
        phase: str = "search",
        tell: Callable[[str], None] = lambda _text: None,
        task: str | None = None,
    ) -> None:
        self.name, self.label, self.phase, self.task = name, label, phase, task
        self.method, self.problem, self.objective = method, problem, objective
        self.trials: list[Trial] = []
        self.alive: list[Trial] = []
        self.tally = Tally()
        #: Of the last segment, by number of the run.
        self.evaluations: dict[int, Evaluation] = {}
        #: What one of `trials` is, in a word, and where they are, if another than this process carries out the search.
        self.unit, self.elsewhere = "run", tuple[Place, ...]()
        self._make_cohort, self.tell = make_cohort, tell
        self._cohort: Cohort | None = None
        self._offset = 0

    def run(
        self,
        directory: RunDirectory,
        benchmark: str,
        observers: Sequence[Observer] = (),
        should_stop: Callable[[], bool] = lambda: False,
        between: Callable[[], None] = lambda: None,
    ) -> list[dict[str, Any]]:
        """Carry out the search, or what is left of it, and return the records of its runs.

        Args:
            directory: of the run.
            benchmark: as recorded.
            observers: told of each segment and each run that ended.
            should_stop: asked after each segment and within it, between two steps where it is trained in this process.
            between: called after each segment; may raise.

        Raises:
            Stopped: `should_stop` said so; the last segment that was finished is checkpointed.
            OSError: something could not be written; what was written before is intact.
        """
        for _ in self.segments(directory, benchmark, observers, should_stop):
            if self.alive:
                _go_on(should_stop)
                between()
        records = {record["run"]: record for record in directory.records()}
        return [records[self.run_name(trial.number)] for trial in self.trials]

    def segments(
        self,
        directory: RunDirectory,
        benchmark: str,
        observers: Sequence[Observer] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Carry out the search, or what is left of it, and pause after each segment, which is checkpointed."""
        records = {record["run"]: record for record in directory.records()}
        saved = recovered_state(directory, self.name, records, self.run_name, self.tell)
        if saved is not None:
            self._load(saved)
            if not self.alive and (more := self.method.more()):
                self._offset = write_events(directory.schedule_path, self._start(more), self._offset)
                save_state(directory, self.name, self._state())
        else:
            self._offset = offset_before(directory.schedule_path, self.name)
            events = self._start(self.method.begin())
            self._offset = write_events(directory.schedule_path, events, self._offset)
            save_state(directory, self.name, self._state())
        while self.alive:
            reports = self._segment(should_stop)
            decision = self.method.decide(reports)
            ended = {report.trial for report in reports if report.finished} | decision.stop
            for trial, result in self._results(ended):
                name = self.run_name(trial.number)
                if name not in records:
                    record, history = self.record(trial, result, benchmark)
                    records[name] = directory.append(record, history, partial(self._weights, trial))
                trial.status = records[name]["status"]
                for observer in observers:
                    observer.trial(self, records[name])
            events = self._apply(decision, ended, reports)
            self._offset = write_events(directory.schedule_path, events, self._offset)
            save_state(directory, self.name, self._state())
            for observer in observers:
                observer.segment(self)
            yield

    def run_name(self, number: int) -> str:
        """The name of a run in results.jsonl."""
        return f"{self.name}-{number:04d}"

    @property
    def best(self) -> tuple[Trial, Best] | None:
        """The run with the best evaluation so far, by the first objective, and that evaluation.

        Of runs that can still win or have ended well: at the end, it is the winner of the records.
        """
        found = [
            (trial.best.scores[0], trial)
            for trial in self.trials
            if trial.best is not None and (trial.status == "done" or (not trial.status and not trial.broken))
        ]
        if not found:
            return None
        _, trial = max(found, key=lambda pair: (pair[0], -pair[1].number))
        assert trial.best is not None
        return trial, trial.best

    @property
    def informed(self) -> tuple[int, int] | None:
        """How many of the runs that were proposed knew the scores of others, and how many those are; None for none."""
        proposed = [trial.informed for trial in self.trials if trial.informed is not None]
        return (sum(proposed), len(proposed)) if proposed else None

    @property
    def places(self) -> Sequence[Place]:
        """Where the living runs are trained; empty if it is in this process."""
        return self._cohort.places() if isinstance(self._cohort, Scattered) else self.elsewhere

    @property
    def shards(self) -> int | None:
        """In how many shards the living runs are trained; None where they are one program, wherever that is."""
        shards = self._cohort.shards if isinstance(self._cohort, Scattered) else 1
        return shards if shards > 1 else None

    def _segment(self, should_stop: Callable[[], bool]) -> list[Report]:
        """Train living runs for an interval, or to the end of the first that ends before, and evaluate them.

        All of them, unless the method does not wait for all and the cohort can give some.
        """
        steps = min(self.problem.interval, min(self.problem.length - trial.step for trial in self.alive))
        found = self._trained(steps, partial(_go_on, should_stop))
        self.tally.steps += steps * len(found)
        reports, better = [], []
        known = {number: evaluation.failure for number, evaluation in self.evaluations.items()}
        self.evaluations = {}
        for index, evaluation in found.items():
            trial = self.alive[index]
            self.evaluations[trial.number] = evaluation
            trial.step += steps
            if evaluation.failure and evaluation.failure != known.get(trial.number):
                self.tell(f"{self.run_name(trial.number)} counts as broken: {evaluation.failure}")
            scores = self.objective.of(evaluation)
            if trial.hear(evaluation, scores, self.tally.steps):
                better.append(index)
            finished = trial.step >= self.problem.length
            kept = trial.best.scores if trial.best is not None else scores
            reports.append(Report(trial.number, trial.step, trial.values, scores, finished, kept))
        if better:
            assert self._cohort is not None
            self._cohort.remember(better)
        self.tally.best.append((self.tally.steps, -math.inf if self.best is None else self.best[1].scores[0]))
        return reports

    def _trained(self, steps: int, go_on: Callable[[], bool]) -> Mapping[int, Evaluation]:
        assert self._cohort is not None
        if self.method.options.asynchronous and isinstance(self._cohort, Arriving):
            return self._cohort.arrivals(steps, go_on)
        self._cohort.advance(steps, go_on)
        return dict(enumerate(self._cohort.evaluate()))

    def _weights(self, trial: Trial) -> dict[str, Any]:
        """Of a living run, those of its best evaluation."""
        assert self._cohort is not None
        return self._cohort.weights(self.alive.index(trial))

    def _results(self, ended: set[int]) -> list[tuple[Trial, Result]]:
        if not ended:
            return []
        assert self._cohort is not None
        pairs = zip(self.alive, self._cohort.results(), strict=True)
        return [(trial, result) for trial, result in pairs if trial.number in ended and result is not None]

    def record(self, trial: Trial, result: Result, benchmark: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is written of a run that ended, and its curves."""
        cut, best = trial.step < self.problem.length, trial.best
        values = trial.values if best is None else best.values
        scores = (-math.inf,) * len(self.objective.names) if best is None else best.scores
        status, reason = result.status, result.reason
        if status == "done" and best is None:
            status, reason = "failed", f"no evaluation gave a finite {' and '.join(self.objective.names)}"
        record = {
            "run": self.run_name(trial.number),
            "benchmark": benchmark,
            "strategy": self.label or make_member(values, trial.seed).strategy,
            "hyperparameters": values,
            "seed": trial.seed,
            "phase": self.phase,
            "task": self.task,
            "search": self.name,
            "trial": trial.number,
            "objective": self.objective.natural(scores),
            "metrics": result.metrics,
            "validation": result.validation if best is None else best.metrics,
            "cost": {**result.cost, "steps": trial.step},
            "informed": trial.informed,
            "spent": self.tally.steps,
            "shards": self.shards,
            "status": "stopped" if cut and status == "done" else status,
            "skipped": result.skipped,
            "best_step": 0 if best is None else best.step,
            "best_trial": trial.number if best is None else best.trial,
            "selection": result.selection if best is None else best.selection,
            "error": reason or None,
        }
        evaluated = {
            "search_step": [step for step, _, _ in trial.curve],
            "search_spent": [spent for _, spent, _ in trial.curve],
            "search_scores": [list(scores) for _, _, scores in trial.curve],
        }
        return record, {**result.history, **evaluated}

    def _apply(self, decision: Decision, ended: set[int], reports: Sequence[Report]) -> list[Event]:
        kept = [index for index, trial in enumerate(self.alive) if trial.number not in ended]
        if not kept:
            self._cohort = None
        elif len(kept) < len(self.alive):
            assert self._cohort is not None
            self._cohort.keep(kept)
        self.alive = [self.alive[index] for index in kept]
        return self._exploit(decision, reports) + self._start(decision.start)

    def _exploit(self, decision: Decision, reports: Sequence[Report]) -> list[Event]:
        index = {trial.number: place for place, trial in enumerate(self.alive)}
        broken = {report.trial for report in reports if report.broken}
        changed = {**{exploit.target: exploit.values for exploit in decision.exploits}, **decision.changes}
        if not changed:
            return []
        assert self._cohort is not None
        sources = {index[exploit.target]: index[exploit.source] for exploit in decision.exploits}
        followed = self._followed(decision.exploits)
        keeping = [index[target] for target in followed if followed[target] is self.trials[target].best]
        self._cohort.exploit(sources, keeping)
        for target, best in followed.items():
            self.trials[target].best = best
        members = {index[number]: make_member(values, self.trials[number].seed) for number, values in changed.items()}
        self._cohort.replace(members)
        events = []
        for exploit in decision.exploits:
            trial = self.trials[exploit.target]
            source = self.trials[exploit.source]
            both: dict[str, float | None] = {"target": trial.curve[-1][2][0], "source": source.curve[-1][2][0]}
            before, after = trial.values, exploit.values
            line = (trial.step, trial.number, source.number, trial.seed, before, after, both, source.step)
            events.append(Event(self.name, *line, self.tally.steps))
            self.tally.exploits += 1
            self.tally.replaced_nonfinite += exploit.target in broken
        for number, values in changed.items():
            self.trials[number].values = dict(values)
        return events

    def _followed(self, exploits: Sequence[Exploit]) -> dict[int, Best | None]:
        """The best evaluation of each target once it has taken over its source: the better of both, its own if equal.

        So no state that was ever the best is lost because its run went astray later.
        """
        found = {}
        for exploit in exploits:
            own, other = self.trials[exploit.target].best, self.trials[exploit.source].best
            found[exploit.target] = other if self.method.forgets else better_of(own, other)
        return found

    def _start(self, starts: Sequence[Start]) -> list[Event]:
        begun = []
        for start in starts:
            number = len(self.trials)
            own = self.problem.seed + (0 if self.method.shares_seed else number)
            seed = own if start.seed is None else start.seed
            begun.append(Trial(number, seed, dict(start.values), informed=start.informed))
            self.trials.append(begun[-1])
        if begun:
            members = [make_member(trial.values, trial.seed) for trial in begun]
            if self._cohort is None:
                self._cohort = self._make_cohort(members)
            else:
                self._cohort.add(members)
            self.alive += begun
        when = {"spent": self.tally.steps, "shards": self.shards}
        return [Event(self.name, 0, t.number, None, t.seed, None, t.values, {}, **when) for t in begun]

    def _state(self) -> dict[str, Any]:
        return {
            "trials": [trial.plain() for trial in self.trials],
            "alive": [trial.number for trial in self.alive],
            "method": self.method.state_dict(),
            "tally": dataclasses.asdict(self.tally),
            "offset": self._offset,
            "cohort": None if self._cohort is None else self._cohort.state_dict(),
            "random": checkpoints.random_state(),
        }

    def _load(self, saved: Mapping[str, Any]) -> None:
        self.trials = [Trial.of(trial) for trial in saved["trials"]]
        self.alive = [self.trials[number] for number in saved["alive"]]
        self.tally = Tally(**saved["tally"])
        self._offset = saved["offset"]
        self.method.load_state_dict(saved["method"])
        if self.alive:
            members = [make_member(trial.values, trial.seed) for trial in self.alive]
            self._cohort = self._make_cohort(members)
            self._cohort.load_state_dict(saved["cohort"])
        checkpoints.restore_random_state(saved["random"])


def default_interval(length: int) -> int:
    """About a twentieth of a run, so that a whole number of intervals makes one where that is possible."""
    near = [steps for steps in range(max(1, length // 40), max(1, length // 10) + 1) if length % steps == 0]
    return min(near, key=lambda steps: abs(math.log(20 * steps / length)), default=math.ceil(length / 20))
