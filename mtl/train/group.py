"""Runs that are stepped together: the rules of a run, whichever stepper makes the steps."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl.train.curves import evaluation_values
from mtl.train.evaluate import selection, undefined
from mtl.train.forms import restructured
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import found_losses, learning, without_learned
from mtl.train.member import Evaluation
from mtl.train.outcome import Result, bad_steps, result_of
from mtl.train.run import Run
from mtl.train.stepper import Snapshot, Stepper
from mtl.train.surroundings import Randomness, threads
from mtl.train.tally import Measured


class Group:
    """Runs of one structure, by rows, and the stepper that trains them.

    Args:
        ground: what all runs of the cohort stand on.
        stepper: with a row for each run.
        runs: as they are.
        ids: their numbers in the cohort.

    Attributes:
        over: whether all runs were finished when that was last looked at.
    """

    def __init__(self, ground: Ground, stepper: Stepper, runs: Sequence[Run], ids: Sequence[int]) -> None:
        self.stepper, self.ids, self.over = stepper, list(ids), False
        self._ground, self._begun = ground, False
        self.runs = runs

    @classmethod
    def begun(cls, ground: Ground, stepper: Stepper, jobs: Sequence[Job], ids: Sequence[int]) -> Group:
        """Runs before their first step."""
        return cls(ground, stepper, [Run(job, stepper.snapshot(row)) for row, job in enumerate(jobs)], ids)

    @property
    def runs(self) -> Sequence[Run]:
        """The runs as they are now."""
        if self._ahead or self._seconds:
            self.runs = [run.stepped(self._ahead, self._seconds) for run in self._runs]
        return self._runs

    @runs.setter
    def runs(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)
        # Steps after which nothing was due are added up, and to the runs when those are looked at.
        self._ahead, self._seconds = 0, 0.0
        self._quiet = min(run.job.quiet(run.state.step) for run in self._runs)

    @property
    def key(self) -> Any:
        """Equal for groups that one stepper can train."""
        return self._runs[0].job.key

    @property
    def step_number(self) -> int:
        """Steps made by the run that has made the most."""
        return max(run.state.step for run in self._runs) + self._ahead

    def begin(self, seconds: float) -> bool:
        """A piece of what precedes the first step, about so long; whether there was any left to do."""
        if self._begun:
            return False
        started = time.perf_counter()
        with threads(self._runs[0].job.settings.threads):
            self._begun = not self.stepper.begin(seconds)
        self._seconds += (time.perf_counter() - started) / len(self._runs)
        return not self._begun

    def before(self) -> tuple[int, int]:
        """Steps of losses that learn before training: those that were made, and all, of all runs together."""
        losses = [learning(task) for run in self._runs for task in run.job.tasks]
        steps = sum(loss.offline_steps for loss in losses if loss is not None)
        return steps - (self.stepper.waiting() if steps else 0), steps

    def step(self) -> bool:
        """One optimizer step of every run, with the point of the curves and the evaluation that fall on it.

        Returns whether something fell on it, so that runs may be finished now. Where memory runs out, no step is made.
        """
        started = time.perf_counter()
        with threads(self._runs[0].job.settings.threads):
            falls = [run.state.falls for run in self._runs]
            self.stepper.step([run.state.step + self._ahead for run in self._runs], falls)
        self._ahead += 1
        self._seconds += (time.perf_counter() - started) / len(self._runs)
        if self._ahead <= self._quiet:
            return False
        self.runs = self._drawn(self.runs)
        due = [row for row, run in enumerate(self.runs) if run.job.evaluates(run.state.step)]
        if due and not self._ground.told:
            self._judge(due)
        return True

    def _drawn(self, runs: Sequence[Run]) -> list[Run]:
        """The runs with a point of their curves, where the step just made is one."""
        due = [run.job.draws(run.state.step - 1) for run in runs]
        if not any(due):
            return [*runs]
        found = []
        for row, (run, weights, losses) in enumerate(zip(runs, *self.stepper.noted(), strict=True)):
            if due[row]:
                run = run.drawn(weights, losses, bad_steps(self.stepper.skipped(row)))
                if self._ground.observe is not None:
                    point = run.curves.training[-1]
                    self._ground.observe(self.ids[row], point.step, point.values(list(run.job.losses)))
            found.append(run)
        return found

    def _judge(self, rows: Sequence[int]) -> None:
        """Evaluate some runs; what is better than before is remembered."""
        runs = [*self.runs]
        with self._aside():
            measured = self.stepper.measured(rows, self._ground.splits.validation)
        for row, found in zip(rows, measured, strict=True):
            score = self._score(found)
            runs[row] = runs[row].judged(found, score, lambda row=row: self.stepper.snapshot(row))  # type: ignore[misc]
            self._tell_of(row, runs[row], found, score)
        self.runs = runs

    def _score(self, found: Measured) -> float:
        return selection(self._ground.tasks, found.metrics, self._ground.reference)

    def _tell_of(self, row: int, run: Run, found: Measured, score: float) -> None:
        if self._ground.observe is not None:
            self._ground.observe(self.ids[row], run.state.step, evaluation_values(found, score))

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """For evaluations: a metric that draws random numbers moves neither the runs' nor the caller's."""
        job = self._runs[0].job
        with threads(job.settings.threads), Randomness(self._ground.device, job.member.seed).drawing():
            yield

    def look(self) -> list[bool]:
        """Which runs have nothing left to do."""
        finished = [run.finished for run in self.runs]
        self.over = all(finished)
        return finished

    def fail(self, reason: str) -> None:
        """No run can go on."""
        self.runs = [run.failed(reason) for run in self.runs]

    # --- evaluation ------------------------------------------------------------------------------------------------

    def evaluations(self) -> list[Evaluation]:
        """Each run at its present parameters, on validation data.

        The curves stay as they are, unless whoever drives the cohort decides when they are added to.
        """
        with self._aside():
            measured = self.stepper.measured(range(len(self.runs)), self._ground.splits.validation)
        every, runs, sound, stumbled = [], [], self.stepper.sound(), self.stepper.stumbled()
        for row, (run, found) in enumerate(zip(self.runs, measured, strict=True)):
            score = self._score(found)
            finite = sound[row] and not (stumbled[row] and found.broken)
            run = run.failed(found.failure)
            if self._ground.told:
                run = run.noted(found, score)
                self._tell_of(row, run, found, score)
            failure, newest = run.state.failure, run.curves.newest(list(run.job.losses))
            every.append(Evaluation(score, found.metrics, finite and not failure, newest, failure))
            runs.append(run)
        self.runs = runs
        return every

    def remember(self, row: int) -> None:
        """The present parameters of a run, evaluated just now, are its best."""
        self._put(row, self.runs[row].remembered(self.stepper.snapshot(row)))

    def best(self, row: int) -> dict[str, Any]:
        """The parameters and buffers of a run's best evaluation, as a `state_dict` of its model."""
        return without_learned(self.stepper.weights(self._runs[row].best))

    def results(self, folds: int = 0) -> list[Result]:
        """Each run's result, of the parameters that did best on validation data; they can go on afterwards.

        `folds` is as in `mtl.train.Cohort.results`.
        """
        self.stepper.close()
        judged = [row for row, run in enumerate(self.runs) if run.state.best_step]
        others = [row for row in range(len(self.runs)) if row not in judged]
        splits, tasks, reference = self._ground.splits, self._ground.tasks, self._ground.reference
        with self._aside():
            validation, test = self._at_best(judged, splits.validation), self._at_best(judged, splits.test, folds)
            last = dict(zip(others, self.stepper.measured(others, splits.validation) if others else [], strict=True))
        unjudged = {row: undefined(tasks, found.metrics, reference) for row, found in last.items()}
        sound, stumbled = self.stepper.sound(), self.stepper.stumbled()
        return [
            result_of(
                run,
                self.stepper.skipped(row),
                self.stepper.passes(row),
                self._ground.device,
                sound=sound[row],
                stumbled=stumbled[row],
                unjudged=unjudged.get(row, []),
                validation=validation.get(row),
                test=test.get(row),
                learned=self._learned(row),
            )
            for row, run in enumerate(self.runs)
        ]

    def _learned(self, row: int) -> dict[str, dict[str, Any]]:
        """The losses that a run has learned, as they were at its best evaluation, by task."""
        run = self.runs[row]
        if not any(learning(task) for task in run.job.tasks):
            return {}
        return found_losses(run.job.tasks, self.stepper.weights(run.best))

    def _at_best(self, rows: Sequence[int], split: Any, folds: int = 0) -> dict[int, Measured]:
        if not rows:
            return {}
        snapshots: list[Snapshot] = [self.runs[row].best for row in rows]
        return dict(zip(rows, self.stepper.measured_at(rows, snapshots, split, folds), strict=True))

    # --- exploit and explore ---------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Group:
        """Copies of some runs, which share nothing with this group."""
        runs, ids = [self.runs[row] for row in rows], [self.ids[row] for row in rows]
        return Group(self._ground, self.stepper.select(rows), runs, ids)

    def without(self, row: int) -> Group:
        """The other runs."""
        return self.select([other for other in range(len(self.ids)) if other != row])

    def join(self, others: Sequence[Group]) -> Group:
        """These runs and those of other groups of the same structure."""
        every = [self, *others]
        stepper = self.stepper.join([other.stepper for other in others])
        ids = [number for group in every for number in group.ids]
        return Group(self._ground, stepper, [run for group in every for run in group.runs], ids)

    def take_over(self, row: int, source: Group, *, best: bool) -> None:
        """Give a run the state of the first of another group, and with `best` its best evaluation so far."""
        if self.stepper.most != source.stepper.most:  # as it may be where cohorts were made apart
            source = source.restructured(0, source.runs[0].job, vectorised=self.stepper.most > 1)
        self.stepper.take_over(row, source.stepper, 0)
        self._begun = False  # as the source may have made no step
        self._put(row, self.runs[row].gone_on_from(source.runs[0], best=best))

    def change(self, jobs: Mapping[int, Job]) -> None:
        """Give runs other jobs of the same structure, by row."""
        runs = [run.assigned(jobs.get(row, run.job)) for row, run in enumerate(self.runs)]
        self.stepper.change([run.job for run in runs])
        self.runs = runs

    def restructured(self, row: int, job: Job, *, vectorised: bool) -> Group:
        """One run with a job of another structure, by itself: same parameters, and what else still has its form.

        Args:
            row: of the run.
            job: the new one.
            vectorised: whether it is to be trained as a row among many, or in a way of its own.
        """
        stepper, best = restructured(self._ground, self.stepper, row, self.runs[row], job, vectorised=vectorised)
        moved = dataclasses.replace(self.runs[row], job=job, best=best)
        return Group(self._ground, stepper, [moved], [self.ids[row]])

    def _put(self, row: int, run: Run) -> None:
        self.runs = [run if place == row else other for place, other in enumerate(self.runs)]

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the steps to come depend on but the jobs, as tensors and plain values."""
        runs = [run.plain() for run in self.runs]
        return {
            "ids": [*self.ids],
            "vmapped": self.stepper.most > 1,
            "stepper": self.stepper.state_dict(),
            "runs": runs,
        }

    @classmethod
    def of(cls, ground: Ground, stepper: Stepper, jobs: Sequence[Job], saved: Mapping[str, Any]) -> Group:
        """The inverse of `state_dict()`, with a stepper of the jobs that has made no step."""
        stepper.load_state_dict(saved["stepper"])
        runs = [Run.of(job, plain) for job, plain in zip(jobs, saved["runs"], strict=True)]
        return cls(ground, stepper, runs, saved["ids"])
