"""What a run is to do: a member with all its settings, and the rules that follow from these alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mtl.benchmarks.apart import tasks_of_losses
from mtl.benchmarks.benchmark import Task
from mtl.benchmarks.losses import fitted_tasks
from mtl.losses import Loss
from mtl.population.strategies import structure
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from mtl.train import compiled, lbfgs
from mtl.train.average import decay, share_of_mean
from mtl.train.batches import steps_per_epoch
from mtl.train.ground import Ground
from mtl.train.learning import adapting, check_learning
from mtl.train.member import Member
from mtl.train.optimizers import OptimizerSpec, read_optimizer
from mtl.train.schedules import read_schedule
from mtl.train.settings import Settings
from mtl.train.smoothing import smoothed

CURVE_POINTS = 200  # of a run's curves of weights and losses; up to twice as many where the length is no multiple

# Settings that shape the program; members that differ in others run side by side.
_STRUCTURAL = (
    "batch_size",
    "sampling",
    "augment",
    "accumulate",
    "amp",
    "compile",
    "model",
    "architecture",
    "head_weighting",
    "scale",
    "align_data",
    "threads",
)


def check_together(
    settings: Settings, strategy: Strategy, tasks: Sequence[Task] = (), *, processes: bool = False
) -> None:
    """Raise `ValueError` where settings, a strategy, losses and the way of training do not go together.

    Args:
        settings: of a run.
        strategy: that weights its losses.
        tasks: with their losses, as far as they are known.
        processes: whether several train the run together.
    """
    compiled.check_strategy(settings, strategy)
    check_learning(tasks, strategy)
    if read_optimizer(settings.optimizer).searches:
        lbfgs.check_strategy(settings.optimizer, strategy)
        learned = [task.name for task in tasks if adapting(task)]
        lbfgs.check_run(settings.optimizer, learned, processes=processes)


@dataclass(frozen=True)
class Job:
    """What a run is to do.

    Attributes:
        member: what distinguishes it.
        strategy: that weights its losses.
        settings: all of them.
        tasks: with its own losses.
        losses: by name of each loss that the strategy weighs, the task whose it is.
        per_epoch: steps of a pass over the training split.
    """

    member: Member
    strategy: Strategy
    settings: Settings
    tasks: Sequence[Task]
    losses: Mapping[str, str]
    per_epoch: int

    @classmethod
    def of(cls, member: Member, settings: Settings, ground: Ground) -> Job:
        """The job of `member` in a cohort with these settings; a `ValueError` says what is wrong with it."""
        strategy, resolved = make(member.strategy), member.resolved(settings)
        per_epoch = steps_per_epoch(ground.splits.train, resolved.batch_size)
        tasks = smoothed(fitted_tasks(member.tasks(ground.tasks), ground.splits.train), resolved.label_smoothing)
        losses = tasks_of_losses(tasks)
        strategy.check_tasks(len(losses))
        check_together(resolved, strategy, tasks, processes=ground.processes is not None)
        return cls(member, strategy, resolved, tasks, losses, per_epoch)

    @property
    def key(self) -> Hashable:
        """Equal for jobs that one program can do together."""
        losses = tuple(
            (structure(task.loss), adapting(task)) if isinstance(task.loss, Loss) else id(task.loss)
            for task in self.tasks
        )
        settings = tuple(getattr(self.settings, name) for name in _STRUCTURAL)
        rates = (self.settings.dropout, self.settings.stochastic_depth)
        dropout = tuple(None if rate is None else rate > 0 for rate in rates)
        of_heads = frozenset(self.settings.head_dropouts(task.name for task in self.tasks))
        averages = self.settings.ema is None, self.settings.swa is None
        optimizer = self.optimizer.name if self.optimizer.side_by_side else self.settings.optimizer
        return (
            structure(self.strategy),
            losses,
            settings,
            optimizer,
            dropout,
            of_heads,
            self.settings.mixes,
            averages,
            self.settings.spectral > 0,
        )

    @property
    def optimizer(self) -> OptimizerSpec:
        """The optimizer by name and arguments."""
        return read_optimizer(self.settings.optimizer)

    @property
    def length(self) -> int:
        """Optimizer steps of the whole run."""
        return self.settings.length(self.per_epoch)

    @property
    def steady(self) -> bool:
        """Whether the learning rate is the same at every step."""
        return self.settings.schedule == "constant" and not self.settings.warmup

    def factor(self, step: int, falls: int) -> float:
        """What learning rates are multiplied with at a step, counted from 0, after so many falls of a plateau."""
        return self.settings.factor(step, self.length, falls)

    @property
    def late_warmup(self) -> str:
        """What a user should know of a warm-up that the run ends in; empty where it is over before."""
        warmup, length = self.settings.warmup, self.length
        if warmup < length:
            return ""
        return (
            f"warmup={warmup} is no shorter than the run of {length} steps: the learning rate rises to "
            f"{length / (warmup + 1):.2g} of its value"
        )

    @property
    def bears(self) -> int | None:
        """Evaluations without a better one that the schedule bears; None where it looks at no evaluation."""
        return read_schedule(self.settings.schedule).bears

    def share(self, step: int) -> float:
        """How far the average of weights moves to the present ones after a step, counted from 0; 1 without one."""
        if self.settings.ema is not None:
            return 1 - decay(self.settings.ema, step)
        return 1.0 if self.settings.swa is None else share_of_mean(self.settings.swa, step, self.length)

    @property
    def stretch(self) -> int:
        """Steps from one evaluation to the next."""
        return self.per_epoch * self.settings.evaluate_every

    def evaluates(self, made: int) -> bool:
        """Whether an evaluation is due when so many steps are made."""
        return made % self.stretch == 0 or made >= self.length

    def draws(self, step: int) -> bool:
        """Whether a step, counted from 0, is a point of the curves."""
        return step % self._spacing == 0

    def quiet(self, step: int) -> int:
        """Steps from `step` on of which none is a point of the curves, and none has an evaluation at its end."""
        to_point, to_evaluation = -step % self._spacing, -(step + 1) % self.stretch
        return max(0, min(to_point, to_evaluation, self.length - step - 1))

    @property
    def _spacing(self) -> int:
        return max(1, self.length // CURVE_POINTS)

    def gives_up(self, since_best: int) -> bool:
        """Whether a run ends after so many evaluations without a better one."""
        return self.settings.patience is not None and since_best >= self.settings.patience
