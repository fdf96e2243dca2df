"""One run of a population: what distinguishes it, and how it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl.benchmarks.benchmark import Task
from mtl.hyperparameters import check_key
from mtl.losses import Loss, make_loss
from mtl.strategies.strategy import Strategy
from mtl.suggestions import nearest
from mtl.train.settings import Settings

_LOSS = "name"  # the key of a loss's spec among its parameters


@dataclass(frozen=True)
class Member:
    """One run of a population: what distinguishes it from its siblings.

    Attributes:
        strategy: its spec; or the strategy itself, for one that has none.
        seed: of the parameters, the batches and the strategy's noise, as in `mtl.train.train`.
        settings: training settings over those of the cohort, by name; `heads.TASK.KEY` is one of a task's head.
        losses: by task, parameters of its loss over those of the benchmark; `name` makes it another loss. A name of a
            task that has dots may be cut at the first, as the flat names of a search are: `{"a": {"b.delta": 1.0}}`.
    """

    strategy: str | Strategy
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Plain values, for a checkpoint; `Member(**plain)` is the same member."""
        losses = {task: dict(values) for task, values in self.losses.items()}
        return {"strategy": str(self.strategy), "seed": self.seed, "settings": dict(self.settings), "losses": losses}

    def resolved(self, settings: Settings) -> Settings:
        """All its training settings, of a cohort with `settings`.

        Raises:
            ValueError: an unknown setting, or a value out of range.
        """
        return settings.over(self.settings)

    def tasks(self, tasks: Sequence[Task]) -> list[Task]:
        """The benchmark's tasks with this member's losses.

        Raises:
            ValueError: an unknown task, or a parameter that its loss does not have.
        """
        names = [task.name for task in tasks]
        found: dict[str, dict[str, Any]] = {}
        for begin, values in self.losses.items():
            for end in values or (_LOSS,):
                place = begin if end == _LOSS else f"{begin}.{end}"
                name, key = (place, _LOSS) if place in names or end == _LOSS else place.rsplit(".", 1)
                if name not in names:
                    raise ValueError(f"unknown task {name!r}: {nearest(name, names)}")
                if values:
                    found.setdefault(name, {})[key] = values[end]
        return [_with_loss(task, found.get(task.name, {})) for task in tasks]


@dataclass(frozen=True)
class Evaluation:
    """A member on validation data, at its present parameters.

    Attributes:
        selection: mean skill of the tasks' primary metrics, higher is better; -inf if not finite.
        metrics: by task and metric.
        finite: whether its parameters and its last losses are finite.
        curves: the newest points of its curves of training losses and weights.
        failure: why it cannot go on, such as a metric that raised an error; empty for none. It is not finite then.
    """

    selection: float
    metrics: dict[str, dict[str, float]]
    finite: bool
    curves: dict[str, float]
    failure: str = ""


def _with_loss(task: Task, changes: Mapping[str, Any]) -> Task:
    if not changes:
        return task
    loss, parameters = task.loss, {key: value for key, value in changes.items() if key != _LOSS}
    if _LOSS in changes:
        loss = make_loss(changes[_LOSS])
    if not isinstance(loss, Loss):
        raise ValueError(f"task {task.name!r}: its loss is a function and has no parameters to set")
    for key in parameters:
        check_key(type(loss), key, f"the loss of task {task.name!r}")
    return dataclasses.replace(task, loss=dataclasses.replace(loss, **parameters))
