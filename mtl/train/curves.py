"""The curves of a run: points that are added and never changed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtl.train.tally import Measured


class Point(NamedTuple):
    """A training step: the losses that the strategy weighs, with their weights; that of an absent task is None."""

    step: int
    weights: list[float]
    losses: list[float | None]

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """By the names of the losses, for whoever watches."""
        row = {f"weight/{name}": weight for name, weight in zip(names, self.weights, strict=True)}
        losses = zip(names, self.losses, strict=True)
        return row | {f"train_loss/{name}": loss for name, loss in losses if loss is not None}


class Judgement(NamedTuple):
    """An evaluation on validation data: the loss of each task, and the selection."""

    step: int
    losses: list[float]
    selection: float


def evaluation_values(found: Measured, score: float) -> dict[str, float]:
    """An evaluation on validation data by name, for whoever watches."""
    row = {f"validation_loss/{name}": loss for name, loss in found.losses.items()}
    row |= {f"validation/{task}/{key}": x for task, values in found.metrics.items() for key, x in values.items()}
    return {**row, "validation/selection": score}


@dataclass(frozen=True)
class Curves:
    """Points in the order of their steps."""

    training: tuple[Point, ...] = ()
    evaluations: tuple[Judgement, ...] = ()

    def trained(self, point: Point) -> Curves:
        """With a training step more."""
        return dataclasses.replace(self, training=(*self.training, point))

    def evaluated(self, judgement: Judgement) -> Curves:
        """With an evaluation more."""
        return dataclasses.replace(self, evaluations=(*self.evaluations, judgement))

    def newest(self, names: Sequence[str]) -> dict[str, float]:
        """The weights and losses of the newest training step, by the losses' names; empty before the first."""
        return self.training[-1].values(names) if self.training else {}

    @property
    def ends_in_nan(self) -> bool:
        """Whether a loss of the newest evaluation is NaN."""
        return any(math.isnan(loss) for judgement in self.evaluations[-1:] for loss in judgement.losses)

    @property
    def ends_finite(self) -> bool:
        """Whether there is an evaluation, and all losses of the newest are finite."""
        return any(all(map(math.isfinite, judgement.losses)) for judgement in self.evaluations[-1:])

    def history(self, tasks: Sequence[str], losses: Mapping[str, str]) -> dict[str, Any]:
        """A list of each curve, as `Result.history` has them.

        Args:
            tasks: names, in the order of the losses on validation data.
            losses: in the order of weights and training losses: by name, the task of each.
        """
        return {
            "tasks": list(tasks),
            "losses": dict(losses),
            "step": [point.step for point in self.training],
            "weights": [point.weights for point in self.training],
            "train_loss": [point.losses for point in self.training],
            "eval_step": [judgement.step for judgement in self.evaluations],
            "validation_loss": [judgement.losses for judgement in self.evaluations],
            "validation_selection": [judgement.selection for judgement in self.evaluations],
        }

    def packed(self) -> dict[str, Any]:
        """As tensors, since numbers are slow to pickle one by one; absent losses as their places (row, task)."""
        absent = [
            (row, task)
            for row, point in enumerate(self.training)
            for task, loss in enumerate(point.losses)
            if loss is None
        ]
        training = [
            [point.step, *point.weights, *(math.nan if loss is None else loss for loss in point.losses)]
            for point in self.training
        ]
        evaluations = [[each.step, *each.losses, each.selection] for each in self.evaluations]
        return {"training": _table(training), "evaluation": _table(evaluations), "absent": absent}

    @classmethod
    def of(cls, packed: Mapping[str, Any]) -> Curves:
        """The inverse of `packed`."""
        rows = packed["training"].tolist()
        tasks = (len(rows[0]) - 1) // 2 if rows else 0
        training = [Point(int(row[0]), row[1 : 1 + tasks], row[1 + tasks :]) for row in rows]
        for row, task in packed["absent"]:
            training[row].losses[task] = None
        evaluations = [Judgement(int(row[0]), row[1:-1], row[-1]) for row in packed["evaluation"].tolist()]
        return cls(tuple(training), tuple(evaluations))


def _table(rows: Sequence[Sequence[float]]) -> Tensor:
    """A row for each step: its number, and what belongs to it."""
    return torch.tensor(rows, dtype=torch.float64)
