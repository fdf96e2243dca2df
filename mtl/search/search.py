"""Carries out a search: segments of training on a cohort, and between them what the method decides.

Everything that the next segment depends on is checkpointed after each, so a killed search loses at most one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from mtl.files.lineage import Event, offset_before, write_events
from mtl.search.cohort import MakeCohort, Place
from mtl.search.living import LivingRuns
from mtl.search.methods import Decision, Method, Problem, Report, Start
from mtl.search.objective import Objective
from mtl.search.record import Heading, record_of
from mtl.search.recovery import recovered_state, save_state
from mtl.search.space.refusals import Refusals
from mtl.search.standing import Standing, Totals
from mtl.search.takeover import take_over
from mtl.search.trial import Best, Trial
from mtl.stats.examples import FOLDS
from mtl.study.rundir import RunDirectory
from mtl.train import Evaluation, Result, Stopped
from mtl.train import checkpoint as checkpoints


class SearchObserver(Protocol):
    """Whoever wants to know how a search goes: the terminal, the tracker, a bench."""

    def segment(self, search: Search) -> None:
        """All runs alive were trained and evaluated, the method has decided, and that is checkpointed."""

    def trial(self, search: Search, record: dict[str, Any]) -> None:
        """A run ended, and its record is written."""


def _stop_if(should_stop: Callable[[], bool]) -> bool:
    """False, for whoever asks whether to stop; otherwise `Stopped`, and nothing is kept of a segment in its midst."""
    if should_stop():
        raise Stopped
    return False


def _new_failures(before: Mapping[int, Evaluation], now: Mapping[int, Evaluation]) -> dict[int, str]:
    """Why runs count as broken, of those that did not for the same reason after the segment before."""
    known = {number: evaluation.failure for number, evaluation in before.items()}
    failures = {number: evaluation.failure for number, evaluation in now.items() if evaluation.failure}
    return {number: failure for number, failure in failures.items() if failure != known.get(number)}


class Search:
    """One search on one benchmark.

    Args:
        name: of the search. The names of its runs and its checkpoint begin with it.
        label: the strategy that a report counts its runs for; empty where each counts for its own.
        method: decides after each segment.
        problem: the space, the length of a run, the seed.
        objective: what is maximised.
        make_cohort: makes the cohort that trains.
        phase: as recorded: `search`, `final` or `single_task`.
        tell: called with a line that the user should read.
        task: the only task that its runs train, where they are single-task baselines.

    Attributes:
        standing: its runs and what was done so far; a new value after each segment.
        evaluations: those of the last segment, by number of the run.
        unit: what one of `trials` is called in messages, `run` or `shard`.
        elsewhere: where the runs are trained, if something else than this object carries out the search.
        learned_elsewhere: `learned` there.
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
        self._heading = Heading(name, label, phase, task)
        self.name, self.label, self.phase, self.task = name, label, phase, task
        self.method, self.problem, self.objective, self.tell = method, problem, objective, tell
        self.standing = Standing()
        self.evaluations: dict[int, Evaluation] = {}
        self.unit, self.elsewhere = "run", tuple[Place, ...]()
        self.learned_elsewhere: tuple[int, int] | None = None
        self._living = LivingRuns(make_cohort)
        self._offset = 0

    def run(
        self,
        directory: RunDirectory,
        benchmark: str,
        observers: Sequence[SearchObserver] = (),
        should_stop: Callable[[], bool] = lambda: False,
        between: Callable[[], None] = lambda: None,
    ) -> list[dict[str, Any]]:
        """Carry out the search, or what is left of it, and return the records of its runs.

        Args:
            directory: of the run.
            benchmark: as recorded.
            observers: told of each segment and each run that ended.
            should_stop: asked after each segment and within it.
            between: called after each segment; may raise.

        Raises:
            Stopped: `should_stop` said so; the last segment that was finished is checkpointed.
            OSError: something could not be written; what was written before is intact.
        """
        for _ in self.segments(directory, benchmark, observers, should_stop):
            if self.alive:
                _stop_if(should_stop)
                between()
        records = {record["run"]: record for record in directory.records()}
        return [records[self.run_name(trial.number)] for trial in self.trials]

    def segments(
        self,
        directory: RunDirectory,
        benchmark: str,
        observers: Sequence[SearchObserver] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Carry out the search, or what is left of it; pause after each segment, when everything is checkpointed.

        Its arguments are those of `run`.
        """
        records = {record["run"]: record for record in directory.records()}
        saved = recovered_state(directory, self.name, records, self.run_name, self.tell)
        if saved is None:
            self._offset = offset_before(directory.schedule_path, self.name)
            self._save(directory, self._start(self.method.begin()))
        else:
            self._load(saved)
            if not self.alive and (more := self.method.more()):
                self._save(directory, self._start(more))
        if self.method.options.asynchronous:
            # What follows a checkpoint depends on timing, so that a run which ended after it ends otherwise now.
            known = {self.run_name(trial.number) for trial in self.trials if trial.status}
            records = {name: record for name, record in records.items() if name in known}
        while self.alive:
            reports = self._segment(should_stop)
            decision = self.method.decide(reports)
            ended = {report.trial for report in reports if report.finished} | decision.stop
            over = []
            for index, trial, result in self._results(ended):
                name = self.run_name(trial.number)
                if name not in records:
                    record, history = self.record(trial, result, benchmark)
                    records[name] = directory.append(record, history, partial(self._living.weights, index))
                over.append(dataclasses.replace(trial, status=records[name]["status"]))
            self.standing = self.standing.changed(over)
            for trial, observer in itertools.product(over, observers):
                observer.trial(self, records[self.run_name(trial.number)])
            self._save(directory, self._apply(decision, reports, ended))
            for observer in observers:
                observer.segment(self)
            yield
        if self._refusals is not None and (said := self._refusals.words()):
            self.tell(said)

    def record(self, trial: Trial, result: Result, benchmark: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The line of results.jsonl of a run that ended, and its curves.

        Args:
            trial: the run.
            result: what its training came to.
            benchmark: name of the benchmark.
        """
        return record_of(
            trial,
            result,
            heading=self._heading,
            objective=self.objective,
            benchmark=benchmark,
            length=self.problem.length,
            spent=self.totals.steps,
            shards=self._living.shards,
        )

    def counts_for(self, number: int, values: Mapping[str, Any]) -> str:  # noqa: ARG002
        """What a report counts a run with these values for: the search's own label, or the run's strategy."""
        return self.label or str(values["strategy"])

    def weights(self, number: int) -> dict[str, Any]:
        """The parameters and buffers of a living run's best evaluation, by name."""
        return self._living.weights(self.standing.living.index(number))

    def run_name(self, number: int) -> str:
        """The name of a run in results.jsonl."""
        return self._heading.run_name(number)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All runs by number."""
        return self.standing.trials

    @property
    def alive(self) -> tuple[Trial, ...]:
        """The runs that are being trained."""
        return self.standing.alive

    @property
    def totals(self) -> Totals:
        """What was done so far."""
        return self.standing.totals

    @property
    def best(self) -> tuple[Trial, Best] | None:
        """The run with the best evaluation so far, and that evaluation; see `Standing.best`."""
        return self.standing.best

    @property
    def learned(self) -> tuple[int, int] | None:
        """While losses learn before training, how many of their steps were made, and how many there are in all."""
        return self._living.learning or self.learned_elsewhere

    @property
    def learning(self) -> str:
        """While losses learn before training, how far they are; otherwise empty."""
        found = self.learned
        return "" if found is None else f"learning losses before training, {found[0]:,} of {found[1]:,} steps"

    @property
    def places(self) -> Sequence[Place]:
        """Where the living runs are trained; empty if it is in this process."""
        return self.elsewhere if self._living.places is None else self._living.places

    @property
    def _refusals(self) -> Refusals | None:
        return self.problem.space.refusals

    def _segment(self, should_stop: Callable[[], bool]) -> list[Report]:
        """Train living runs for an interval, or to the end of the first that ends before, and evaluate them.

        All of them, unless the method does not wait for all and the cohort can give some.
        """
        alive, length = self.alive, self.problem.length
        steps = min(self.problem.interval, min(length - trial.step for trial in alive))
        wait = not self.method.options.asynchronous
        found = self._living.train(steps, partial(_stop_if, should_stop), wait=wait)
        evaluations = {alive[index].number: evaluation for index, evaluation in found.items()}
        for number, failure in _new_failures(self.evaluations, evaluations).items():
            self.tell(f"{self.run_name(number)} counts as broken: {failure}")
        self.evaluations = evaluations
        spent = self.totals.steps + steps * len(found)
        trials = {
            index: alive[index].evaluated(alive[index].step + steps, evaluation, self.objective.of(evaluation), spent)
            for index, evaluation in found.items()
        }
        self._living.remember([index for index, trial in trials.items() if trial.at_its_best])
        self.standing = self.standing.trained([*trials.values()], steps * len(found))
        return [trial.report(finished=trial.step >= length) for trial in trials.values()]

    def _results(self, ended: Collection[int]) -> list[tuple[int, Trial, Result]]:
        """What became of the runs that end: index, run and result of each."""
        folds = 0 if self.phase == "search" else FOLDS  # runs that are compared, and not searched among
        found = enumerate(zip(self.alive, self._living.results(folds), strict=True)) if ended else ()
        return [(k, trial, result) for k, (trial, result) in found if trial.number in ended and result is not None]

    def _apply(self, decision: Decision, reports: Sequence[Report], ended: Collection[int]) -> list[Event]:
        """Let runs end, take over others, change their values and begin; the events of that."""
        living = self.standing.living
        self._living.keep([index for index, number in enumerate(living) if number not in ended], len(living))
        broken = {report.trial for report in reports if report.broken}
        remaining = self.standing.without(ended)
        change = take_over(remaining, decision, broken, forgets=self.method.forgets, search=self.name)
        self._living.take_over(change)
        self.standing = change.standing
        return [*change.events, *self._start(decision.start)]

    def _start(self, starts: Sequence[Start]) -> list[Event]:
        begun = [
            Trial(number, self.method.seed_of(number, start), dict(start.values), informed=start.informed)
            for number, start in enumerate(starts, len(self.trials))
        ]
        self._living.begin([trial.member for trial in begun])
        self.standing = self.standing.begun(begun)
        when = {"spent": self.totals.steps, "shards": self._living.shards}
        return [Event(self.name, 0, t.number, None, t.seed, None, t.values, {}, **when) for t in begun]

    def _save(self, directory: RunDirectory, events: Sequence[Event]) -> None:
        """Write events and a checkpoint that knows of them."""
        self._offset = write_events(directory.schedule_path, events, self._offset)
        parts = {"method": self.method.state_dict(), "offset": self._offset, "cohort": self._living.state_dict()}
        refused = None if self._refusals is None else (self._refusals.count, self._refusals.example)
        state = {**self.standing.state_dict(), **parts, "random": checkpoints.random_state(), "refused": refused}
        save_state(directory, self.name, state)

    def _load(self, saved: Mapping[str, Any]) -> None:
        self.standing, self._offset = Standing.restored(saved), saved["offset"]
        self.method.load_state_dict(saved["method"])
        self._living.load_state_dict([trial.member for trial in self.alive], saved["cohort"])
        checkpoints.restore_random_state(saved["random"])
        if self._refusals is not None and saved.get("refused") is not None:
            self._refusals.count, self._refusals.example = saved["refused"]
