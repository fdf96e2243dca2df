"""One run of a search: a value that each evaluation and each takeover makes a new one of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtl.search.methods.method import Report
from mtl.search.objective import Scores
from mtl.search.space import Values, make_member
from mtl.train import Evaluation, Member


@dataclass(frozen=True)
class Best:
    """The best evaluation of a run: its parameters at that time are kept.

    Attributes:
        trial: number of the run that was evaluated. It is another one's where this run took over a better one.
        step: optimizer steps that the evaluated run had made.
        values: its values at that time.
        scores: its objectives.
        selection: mean skill over the tasks, on validation data.
        metrics: on validation data, by task and metric.
    """

    trial: int
    step: int
    values: Values
    scores: Scores
    selection: float
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Trial:
    """One run of a search, alive or ended.

    Attributes:
        number: runs are numbered in the order in which they begin.
        seed: of its parameters, batches and noise.
        values: its present values.
        step: optimizer steps that it has made.
        curve: (its own steps, steps of the whole search, scores) at each evaluation.
        best: of all evaluations so far, its own and those that it took over; None before the first finite one.
        status: as recorded, once it has ended.
        informed: as of its `Start`.
    """

    number: int
    seed: int
    values: Values
    step: int = 0
    curve: tuple[tuple[int, int, Scores], ...] = ()
    best: Best | None = None
    status: str = ""
    informed: bool | None = None

    def evaluated(self, step: int, evaluation: Evaluation, scores: Scores, spent: int) -> Trial:
        """The run after an evaluation.

        The evaluation becomes its best one unless an earlier one is at least as good in every objective. With one
        objective this means: if it is better than all before.

        Args:
            step: optimizer steps that the run has made by now.
            evaluation: on validation data.
            scores: its objectives; -inf where the run is not finite any more.
            spent: optimizer steps of all runs of the search together.
        """
        best, before = self.best, [found for *_, found in self.curve] + ([self.best.scores] if self.best else [])
        if all(map(math.isfinite, scores)) and not any(_covers(other, scores) for other in before):
            metrics = {task: dict(values) for task, values in evaluation.metrics.items()}
            best = Best(self.number, step, dict(self.values), scores, evaluation.selection, metrics)
        return dataclasses.replace(self, step=step, curve=(*self.curve, (step, spent, scores)), best=best)

    @property
    def scores(self) -> Scores:
        """The objectives at its last evaluation; empty before the first."""
        return self.curve[-1][2] if self.curve else ()

    @property
    def at_its_best(self) -> bool:
        """Whether the last evaluation is the best one, so that the present parameters are those to keep."""
        return self.best is not None and (self.best.trial, self.best.step) == (self.number, self.step)

    @property
    def broken(self) -> bool:
        """Whether its last evaluation was not finite."""
        return not all(map(math.isfinite, self.scores))

    @property
    def member(self) -> Member:
        """The member of a cohort that this run is, with its present values."""
        return make_member(self.values, self.seed)

    def report(self, *, finished: bool) -> Report:
        """What the method is told of the run after its last evaluation."""
        kept = self.scores if self.best is None else self.best.scores
        return Report(self.number, self.step, self.values, self.scores, finished, kept)

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**vars(self), "best": self.best and {**vars(self.best)}}

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Trial:
        """The run that `state_dict` was made from."""
        best = None if saved["best"] is None else Best(**saved["best"])
        return cls(**{**saved, "curve": tuple(saved["curve"]), "best": best})


def better_of(own: Best | None, other: Best | None) -> Best | None:
    """The best evaluation of a run that takes over another: the better one of the two, its own if they are equal."""
    return other if own is None or (other is not None and other.scores > own.scores) else own


def _covers(other: Scores, scores: Scores) -> bool:
    return all(theirs >= own for theirs, own in zip(other, scores, strict=True))
