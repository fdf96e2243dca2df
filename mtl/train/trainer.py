"""The training loop. It knows no strategy by name: the balancer says what a strategy needs."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mtl.balancer import Balancer
from mtl.benchmarks.benchmark import Benchmark, Examples, Splits, Task
from mtl.benchmarks.losses import fitted_tasks
from mtl.benchmarks.trunk import may_read_trunk
from mtl.losses.labels import known
from mtl.models import make_architecture, make_trunk
from mtl.step.arguments import HeadWeighting, Scale
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from mtl.train import checkpoint
from mtl.train.augment import Augmented, augment
from mtl.train.batches import Batches
from mtl.train.evaluate import Metrics, measure_model, selection, task_losses, undefined
from mtl.train.outcome import bad_steps, outcome
from mtl.train.record import Record
from mtl.train.references import references
from mtl.train.settings import Settings

MOST_FRESH = 2  # further training batches that a step may read (`cross`), so that none is read twice


def _ignore(*_told: object) -> None:
    """Nobody watches."""


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written and `train` continues from it."""


@dataclass
class Result:
    """What a finished run leaves.

    Attributes:
        status: `done`; `diverged` when too many steps were not finite, or what there is at the end is not; `failed`
            when no evaluation on validation data could be judged, or a metric raised an error.
        metrics: on the test split, of the parameters that did best on validation data; a metric that is undefined
            there is NaN. Empty where no evaluation was judged.
        validation: the same parameters' metrics on the validation split.
        cost: optimizer steps, forward and backward passes, seconds, peak memory in MiB.
        skipped: steps by what was wrong in them.
        history: curves of weights, losses and the validation selection.
        weights: the parameters and buffers that did best, by name; None where they are asked for otherwise.
        reason: why it is not `done`.
    """

    status: str
    metrics: Metrics
    validation: Metrics
    selection: float
    best_step: int
    cost: dict[str, float]
    skipped: dict[str, int]
    history: dict[str, list[Any]] = field(repr=False, default_factory=dict)
    weights: dict[str, Tensor] | None = field(repr=False, default=None)
    reason: str = ""


def train(
    benchmark: Benchmark,
    splits: Splits,
    strategy: str | Strategy,
    settings: Settings,
    *,
    seed: int = 0,
    tasks: Sequence[Task] | None = None,
    device: torch.device | str = "cpu",
    checkpoint_path: Path | None = None,
    progress: Callable[[int, int], None] = _ignore,
    observe: Callable[[int, dict[str, float]], None] = _ignore,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = print,
) -> Result:
    """Train one model and test its best checkpoint.

    Args:
        benchmark: gives the model and, unless `tasks` says otherwise, the tasks.
        splits: its data.
        strategy: a strategy or its spec.
        settings: everything else about the run.
        seed: of the parameters, the batches and the strategy's noise; runs with equal seeds share all three.
        tasks: a subset, for single-task baselines.
        device: where to train.
        checkpoint_path: written at each evaluation; when it exists already, the run continues from it, bit for bit, or
            starts over where it is damaged.
        progress: called with (steps done, steps in all) after each step.
        observe: called with (step, curve values by name) at each logged step and evaluation.
        should_stop: asked after each step.
        tell: called with what a user should know.

    Raises:
        Stopped: `should_stop` said so.
        OSError: a checkpoint cannot be read or written.
    """
    run = Run(benchmark, splits.to(device), make(strategy), settings, seed, tasks or benchmark.tasks, device)
    run.record.observe = observe
    if checkpoint_path is not None:
        try:
            saved = checkpoint.load(checkpoint_path, device)
        except checkpoint.Damaged as damage:
            tell(f"{damage}: the run starts over")
            saved = None
        if saved is not None:
            run.load(saved)
    while not run.finished():
        run.step()
        progress(run.step_number, run.total)
        if run.at_evaluation():
            run.evaluate()
            if checkpoint_path is not None and not run.finished():
                checkpoint.save(checkpoint_path, run.state())
        if should_stop() and not run.finished():
            if checkpoint_path is not None:
                checkpoint.save(checkpoint_path, run.state())
            raise Stopped
    found = run.result()
    found.weights = run.best_model
    return found


class Run:
    """One training run between two of its steps."""

    def __init__(
        self,
        benchmark: Benchmark,
        splits: Splits,
        strategy: Strategy,
        settings: Settings,
        seed: int,
        tasks: Sequence[Task],
        device: torch.device | str,
    ) -> None:
        self.splits, self.settings, self.seed = splits, settings, seed
        self.tasks = fitted_tasks(tasks, splits.train)
        torch.set_num_threads(settings.threads)
        torch.manual_seed(seed)
        self.model = build_model(benchmark, self.tasks, splits.train.first(2), settings).to(device)
        self.optimizer = settings.make_optimizer(self.model.parameters())
        self.batches = Batches(splits.train, settings.batch_size, seed, stream=0)
        aligned_on = splits.validation if settings.align_data == "validation" else splits.train
        self.align_batches = Batches(aligned_on, settings.batch_size, seed, stream=1)
        self.fresh_batches = Batches(splits.train, settings.batch_size, seed, stream=2)
        self.total = settings.length(self.batches.per_epoch)
        self.schedule = settings.make_schedule(self.optimizer, self.total)
        self.balancer = Balancer(
            strategy,
            self.model.shared_parameters(),  # type: ignore[operator]
            tasks=[task.name for task in self.tasks],
            head_weighting=cast(HeadWeighting, settings.head_weighting),
            scale=cast(Scale, settings.scale),
            steps_per_epoch=self.batches.per_epoch,
            seed=seed,
        )
        self.labels_missing = labels_missing(splits.train, self.tasks)
        self.reference, _ = references(self.tasks, splits.train, splits.validation)
        self.record = Record([task.name for task in self.tasks], self.total, settings.patience)
        self.best_model = _copied(self.model)
        self.last_losses: list[Tensor] = []

    def step(self) -> None:
        """One optimizer step."""
        started = time.perf_counter()
        drawn = self.batches[self.step_number]
        batch = augment(drawn, self.settings.noise, self.settings.mixup, self.seed, self.step_number)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._losses(batch)
        fresh = itertools.count(MOST_FRESH * self.step_number)
        weights = self.balancer.backward(
            losses,
            recompute=lambda: self._losses(batch),
            validation=lambda: self._losses(Augmented(self.align_batches[self.step_number])),
            fresh=lambda: self._losses(Augmented(self.fresh_batches[next(fresh)])),
            lookahead_lr=self.optimizer.param_groups[0]["lr"],
        )
        if self.settings.l1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach().sign(), alpha=self.settings.l1)
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.schedule.step()
        self.last_losses = [loss.detach() for loss in losses.values()]
        if self.record.due():
            self._log(losses, weights)
        self.record.step += 1
        self.record.seconds += time.perf_counter() - started

    def _losses(self, drawn: Augmented) -> dict[str, Tensor]:
        batch, predictions = drawn.batch, self.model(drawn.batch.inputs)
        losses = task_losses(self.tasks, predictions, batch)
        if drawn.partner is not None:
            others = task_losses(self.tasks, predictions, drawn.partner)
            losses = {name: drawn.share * loss + (1 - drawn.share) * others[name] for name, loss in losses.items()}
        if not self.labels_missing:
            return losses
        # A task without a single label in the batch has a loss of NaN by definition: it is absent, not broken.
        return {name: loss for name, loss in losses.items() if _labelled(batch.targets[name])}

    def _log(self, losses: dict[str, Tensor], weights: Tensor) -> None:
        per_task = (weights.mean(1) if weights.ndim == 2 else weights).tolist()
        present = [_number(losses.get(task.name)) for task in self.tasks]
        self.record.log(per_task, present, bad_steps(self.balancer.skipped))

    @property
    def step_number(self) -> int:
        """Optimizer steps made."""
        return self.record.step

    def at_evaluation(self) -> bool:
        """Whether the step just made ends a stretch of `evaluate_every` epochs, or the run."""
        stretch = self.batches.per_epoch * self.settings.evaluate_every
        return self.step_number % stretch == 0 or self.step_number >= self.total

    def evaluate(self) -> None:
        """Measure on validation data; remember the best parameters, and notice when to stop."""
        found = measure_model(self.model, self.tasks, self.splits.validation)
        self.record.failure = self.record.failure or found.failure
        if self.record.evaluated(found.losses, found.metrics, selection(self.tasks, found.metrics, self.reference)):
            self.best_model = _copied(self.model)

    def diverged(self) -> bool:
        """Whether more steps than allowed were not finite, as of the last logged one."""
        return self.record.bad_steps > self.settings.nan_limit

    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        ended = self.record.stopped_early or bool(self.record.failure)
        return self.step_number >= self.total or ended or self.diverged()

    def sound(self) -> bool:
        """Whether the parameters, and the losses of the last step, are finite."""
        return all(bool(each.isfinite().all()) for each in (*self.model.parameters(), *self.last_losses))

    def result(self) -> Result:
        """Test the best parameters."""
        skipped, sound, unjudged = dict(self.balancer.skipped), self.sound(), []
        validation = test = None
        if self.record.best_step:
            self.model.load_state_dict(self.best_model)
            validation, test = (
                measure_model(self.model, self.tasks, split) for split in (self.splits.validation, self.splits.test)
            )
        else:
            last = measure_model(self.model, self.tasks, self.splits.validation)
            unjudged = undefined(self.tasks, last.metrics, self.reference)
        status, reason = outcome(
            self.record, skipped, self.settings.nan_limit, sound=sound, unjudged=unjudged, test=test
        )
        return Result(
            status=status,
            metrics=test.metrics if test else {},
            validation=validation.metrics if validation else {},
            selection=self.record.best_selection,
            best_step=self.record.best_step,
            reason=reason,
            cost={
                "steps": self.step_number,
                "forwards": self.step_number + self.balancer.passes["forward"],
                "backwards": self.balancer.passes["backward"],
                "seconds": round(self.record.seconds, 3),
                "peak_memory_mb": peak_memory(self.splits.train.device),
            },
            skipped=skipped,
            history=self.record.history,
        )

    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch, "lrs": self.schedule.get_last_lr()},
            "balancer": self.balancer.state_dict(),
            "random": checkpoint.random_state(),
            "best_model": self.best_model,
            "last_losses": self.last_losses,
            "record": self.record.state(),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.last_epoch, self.schedule._last_lr = saved["schedule"]["last_epoch"], saved["schedule"]["lrs"]
        self.balancer.load_state_dict(saved["balancer"])
        self.best_model, self.last_losses = saved["best_model"], saved["last_losses"]
        self.record.load(saved["record"])
        checkpoint.restore_random_state(saved["random"])


def build_model(benchmark: Benchmark, tasks: Sequence[Task], inputs: Any, settings: Settings) -> nn.Module:
    """The model of a run, its parameters drawn from torch's global generator."""
    if settings.model or settings.architecture or settings.dropout is not None:
        spec = _trunk(benchmark, settings)
        benchmark = copy.copy(benchmark)
        benchmark.trunk = spec
        if settings.architecture:
            benchmark.architecture = settings.architecture
    return benchmark.model(tasks, inputs)


def check_trunk(benchmark: Benchmark, settings: Settings) -> None:
    """Raise `ValueError` for a `model`, `architecture` or `dropout` that cannot be read or has no effect, as far as is
    clear without data."""
    if settings.architecture:
        if not may_read_trunk(benchmark, "architecture"):
            raise ValueError(no_architecture(benchmark, settings))
        if type(benchmark).model is Benchmark.model:
            make_architecture(settings.architecture)
    if settings.model or settings.dropout is not None:
        if not may_read_trunk(benchmark):
            raise ValueError(no_trunk(benchmark, settings))
        spec = _trunk(benchmark, settings)
        if type(benchmark).model is Benchmark.model:  # one of a user's own may have names of its own
            make_trunk(spec)


def no_trunk(benchmark: Benchmark, settings: Settings) -> str:
    """What is said of a `model` or `dropout` that the benchmark's model does not look at."""
    given = f"model={settings.model}" if settings.model else f"dropout={settings.dropout}"
    return f"{given}: benchmark {benchmark.name!r} builds its own model, which does not look at `trunk`"


def no_architecture(benchmark: Benchmark, settings: Settings) -> str:
    """What is said of an `architecture` that the benchmark's model does not look at."""
    given = f"architecture={settings.architecture}"
    return f"{given}: benchmark {benchmark.name!r} builds its own model, which does not look at `architecture`"


def _trunk(benchmark: Benchmark, settings: Settings) -> str:
    spec = settings.model or getattr(benchmark, "trunk", "")
    return spec if settings.dropout is None else _with_dropout(spec, settings.dropout)


def _with_dropout(spec: str, dropout: float) -> str:
    trunk = make_trunk(spec) if spec else None
    if trunk is None or not hasattr(trunk, "dropout"):
        raise ValueError(f"dropout={dropout}: the model {spec or 'of this benchmark'!r} has no dropout to set")
    return str(dataclasses.replace(trunk, dropout=dropout))  # type: ignore[call-arg]


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _number(loss: Tensor | None) -> float | None:
    return None if loss is None else float(loss.detach())


def labels_missing(split: Examples, tasks: Sequence[Task]) -> bool:
    return any(not bool(known(split.targets[task.name]).all()) for task in tasks)


def _labelled(target: Tensor) -> bool:
    return bool(known(target).any())


def peak_memory(device: torch.device) -> float:
    """Peak memory in MiB: the device's allocator on a GPU, the whole process on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
