"""What a run has shown so far: its curves, and which evaluation was its best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

CURVE_POINTS = 200  # logged steps of a run's weight and loss curves

Observe = Callable[[int, dict[str, float]], None]


def _ignore(*_told: object) -> None:
    """Nobody watches."""


class Record:
    """The curves of one run, its best evaluation, and whether it has stopped getting better.

    Args:
        tasks: their names.
        total: steps of the whole run.
        patience: evaluations without a better one after which to stop.

    Attributes:
        bad_steps: steps in which something was not finite, as of the last logged step.
        failure: why the run cannot go on, such as a metric that raised an error; empty for none.
    """

    def __init__(self, tasks: Sequence[str], total: int, patience: int | None) -> None:
        self.tasks, self.total, self.patience = list(tasks), total, patience
        self.step, self.seconds, self.stopped_early = 0, 0.0, False
        self.best_selection, self.best_step, self.since_best = float("-inf"), 0, 0
        self.bad_steps, self.failure = 0, ""
        self.observe: Observe = _ignore
        self.curve_every = max(1, total // CURVE_POINTS)
        self.history: dict[str, list[Any]] = {
            "tasks": self.tasks,
            **{key: [] for key in ("step", "weights", "train_loss", "eval_step", "validation_loss")},
            "validation_selection": [],
        }

    def due(self) -> bool:
        """Whether the step being made is one of those logged."""
        return self.step % self.curve_every == 0

    def log(self, weights: list[float], losses: list[float | None], bad_steps: int = 0) -> None:
        """Note the weights and losses of the step being made; the loss of an absent task is None.

        Args:
            weights: of each task.
            losses: of each task.
            bad_steps: in which something was not finite, so far. Whether there are too many is seen at logged steps
                alone, since each look waits for the device.
        """
        self.bad_steps = bad_steps
        self.history["step"].append(self.step)
        self.history["weights"].append(weights)
        self.history["train_loss"].append(losses)
        if self.observe is not _ignore:
            self.observe(self.step, self.newest())

    def newest(self) -> dict[str, float]:
        """The weights and losses logged last, by name; empty before the first."""
        row: dict[str, float] = {}
        for weights, losses in zip(self.history["weights"][-1:], self.history["train_loss"][-1:], strict=True):
            row |= {f"weight/{task}": weight for task, weight in zip(self.tasks, weights, strict=True)}
            row |= {f"train_loss/{task}": x for task, x in zip(self.tasks, losses, strict=True) if x is not None}
        return row

    def evaluated(self, losses: Mapping[str, float], metrics: Mapping[str, Mapping[str, float]], score: float) -> bool:
        """Note an evaluation on validation data; returns whether it is the best so far."""
        self.note(losses, metrics, score)
        if score > self.best_selection:
            self.remember(score)
            return True
        self.since_best += 1
        self.stopped_early = self.patience is not None and self.since_best >= self.patience
        return False

    def note(self, losses: Mapping[str, float], metrics: Mapping[str, Mapping[str, float]], score: float) -> None:
        """Add an evaluation on validation data to the curves."""
        self.history["eval_step"].append(self.step)
        self.history["validation_loss"].append([losses[task] for task in self.tasks])
        self.history["validation_selection"].append(score)
        row = {f"validation_loss/{name}": loss for name, loss in losses.items()}
        row |= {f"validation/{task}/{key}": x for task, values in metrics.items() for key, x in values.items()}
        self.observe(self.step, {**row, "validation/selection": score})

    def remember(self, score: float) -> None:
        """The evaluation made at this step is the best so far."""
        self.best_selection, self.best_step, self.since_best = score, self.step, 0

    def copy(self) -> Record:
        """Another record in the same state, watched by nobody."""
        copied = Record(self.tasks, self.total, self.patience)
        for name in _COUNTERS:
            setattr(copied, name, getattr(self, name))
        copied.curve_every = self.curve_every
        copied.history = {name: [*values] for name, values in self.history.items()}
        return copied

    def follow(self, other: Record) -> None:
        """Go on from the best evaluation of another run, whose parameters were taken over; the curves stay."""
        self.best_selection, self.best_step, self.since_best = other.best_selection, other.best_step, other.since_best
        self.go_on_from(other)

    def go_on_from(self, other: Record) -> None:
        """Go on from another run's parameters: what had ended this one is past."""
        self.stopped_early, self.bad_steps, self.failure = False, other.bad_steps, other.failure

    def state(self) -> dict[str, Any]:
        """Everything that the evaluations to come depend on."""
        return {**{name: getattr(self, name) for name in _COUNTERS}, **_packed(self.history)}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state()`."""
        for name in _COUNTERS:
            setattr(self, name, saved[name])
        self.history = {"tasks": self.tasks, **_unpacked(saved)}


_COUNTERS = (
    *("step", "seconds", "stopped_early", "best_selection", "best_step", "since_best"),
    *("bad_steps", "failure"),
)
_TRAINING, _EVALUATION = ("step", "weights", "train_loss"), ("eval_step", "validation_loss", "validation_selection")


def _packed(history: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The curves as tensors, since numbers are slow to pickle one by one; absent losses as their places (row, task)."""
    rows = history["train_loss"]
    absent = [(row, task) for row, losses in enumerate(rows) if None in losses for task in _gone(losses)]
    if absent:
        rows = [[float("nan") if x is None else x for x in losses] for losses in rows]
    return {
        "training": _columns(history["step"], history["weights"], rows),
        "evaluation": _columns(
            history["eval_step"], history["validation_loss"], [[x] for x in history["validation_selection"]]
        ),
        "absent": absent,
    }


def _gone(losses: Sequence[float | None]) -> list[int]:
    return [task for task, x in enumerate(losses) if x is None]


def _columns(steps: list[int], *values: list[list[float]]) -> Tensor:
    """A row for each step: its number, and what belongs to it."""
    columns = [torch.tensor(each, dtype=torch.float64).view(len(steps), -1) for each in values if steps]
    return torch.cat([torch.tensor(steps, dtype=torch.float64)[:, None], *columns], 1)


def _unpacked(saved: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The inverse of `_packed`."""
    training, evaluation = saved["training"].tolist(), saved["evaluation"].tolist()
    tasks = (len(training[0]) - 1) // 2 if training else 0
    losses: list[list[float | None]] = [row[1 + tasks :] for row in training]
    for row, task in saved["absent"]:
        losses[row][task] = None
    return {
        "step": [int(row[0]) for row in training],
        "weights": [row[1 : 1 + tasks] for row in training],
        "train_loss": losses,
        "eval_step": [int(row[0]) for row in evaluation],
        "validation_loss": [row[1:-1] for row in evaluation],
        "validation_selection": [row[-1] for row in evaluation],
    }
