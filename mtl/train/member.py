"""One run of a population: what distinguishes it, and what follows from that on a benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl.benchmarks.benchmark import Examples, Task
from mtl.benchmarks.losses import fitted_tasks
from mtl.hyperparameters import check_key, nearest
from mtl.losses import Loss, make_loss
from mtl.population.strategies import structure
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from mtl.train.settings import Settings

# Settings that shape the program; members that differ in others run side by side.
_STRUCTURAL = ("optimizer", "batch_size", "model", "architecture", "head_weighting", "scale", "align_data", "threads")


@dataclass(frozen=True)
class Member:
    """One run of a population: what distinguishes it from its siblings.

    Attributes:
        strategy: its spec.
        seed: of the parameters, the batches and the strategy's noise, as in `mtl.train.train`.
        settings: training settings over those of the cohort, by name.
        losses: by task, parameters of its loss over those of the benchmark; `name` makes it another loss.
    """

    strategy: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def resolved(self, settings: Settings) -> Settings:
        """All its training settings, of a cohort with `settings`.

        Raises:
            ValueError: an unknown setting, or a value out of range.
        """
        known = [each.name for each in dataclasses.fields(Settings)]
        for key in self.settings:
            if key not in known:
                raise ValueError(f"unknown training setting {key!r}: {nearest(key, known)}")
        return dataclasses.replace(settings, **self.settings)

    def tasks(self, tasks: Sequence[Task]) -> list[Task]:
        """The benchmark's tasks with this member's losses.

        Raises:
            ValueError: an unknown task, or a parameter that its loss does not have.
        """
        names = [task.name for task in tasks]
        for name in self.losses:
            if name not in names:
                raise ValueError(f"unknown task {name!r}: {nearest(name, names)}")
        return [self._with_loss(task) for task in tasks]

    def _with_loss(self, task: Task) -> Task:
        changes = self.losses.get(task.name)
        if not changes:
            return task
        loss, changes = task.loss, dict(changes)
        if "name" in changes:
            loss = make_loss(changes.pop("name"))
        if not isinstance(loss, Loss):
            raise ValueError(f"task {task.name!r}: its loss is a function and has no parameters to set")
        for key in changes:
            check_key(type(loss), key, f"the loss of task {task.name!r}")
        return dataclasses.replace(task, loss=dataclasses.replace(loss, **changes))


@dataclass(frozen=True)
class Resolved:
    """A member with everything that follows from it."""

    member: Member
    strategy: Strategy
    settings: Settings
    tasks: Sequence[Task]

    @classmethod
    def of(cls, member: Member, settings: Settings, tasks: Sequence[Task], train: Examples | None = None) -> Resolved:
        """Resolve `member` of a cohort with these settings and tasks; a `ValueError` says what is wrong with it.

        `train` are the examples whose labels decide what its losses leave to them, such as class weights.
        """
        strategy = make(member.strategy)
        strategy.check_tasks(len(tasks))
        own = member.tasks(tasks)
        own = own if train is None else fitted_tasks(own, train)
        return cls(member, strategy, member.resolved(settings), own)

    def key(self) -> Hashable:
        """Equal for members that one program can train together."""
        losses = tuple(structure(task.loss) if isinstance(task.loss, Loss) else id(task.loss) for task in self.tasks)
        settings = tuple(getattr(self.settings, name) for name in _STRUCTURAL)
        dropout = None if self.settings.dropout is None else self.settings.dropout > 0
        mixes = self.settings.mixup > 0
        return structure(self.strategy), losses, settings, dropout, mixes


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
