"""The steps of the losses that are learned: of one model, and of the models of a population."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Task
from mtl.benchmarks.own import OwnExamples
from mtl.losses.learned_loss import LearnedLoss, moved
from mtl.losses.unrolled import unrolled_gradient
from mtl.models import Shared
from mtl.models.architectures.draws import coming
from mtl.population.dropout import undropped
from mtl.population.population import Population
from mtl.population.program import LossFunction, ModelCall
from mtl.population.values import lookahead_lr
from mtl.step.passes import called_with, frozen_statistics
from mtl.step.ranks import Ranks
from mtl.train.augment import Augmented
from mtl.train.learning import adapting, buffer_name, learned_losses, learning
from mtl.train.processes import Processes, examples

#: Passes of a model that a step of a loss takes: here and ahead; back from both, and back through the first.
FORWARDS, BACKWARDS = 2, 3


class LossReading(NamedTuple):
    """What a loss of one task is read on.

    Attributes:
        inputs: of the model; where tasks have their own examples, those of the task.
        target: labels of the task.
        mixed: where examples are mixed with others, the labels of those, and how much of an example is its own.
    """

    inputs: Any
    target: Tensor
    mixed: tuple[()] | tuple[Tensor, Any] = ()


def read_alone(drawn: Augmented, task: str) -> LossReading:
    """What one model has drawn for a task."""
    batch = drawn.batch
    inputs = batch.inputs[task] if isinstance(batch, OwnExamples) else batch.inputs
    if drawn.partner is None:
        return LossReading(inputs, batch.targets[task])
    return LossReading(inputs, batch.targets[task], (drawn.partner.targets[task], drawn.share_of(task)))


def read_rows(batch: Mapping[str, Any], task: str, *, own: bool) -> LossReading:
    """What a `Feed` gives for a task of each member."""
    inputs = batch["inputs"][task] if own else batch["inputs"]
    if "partner" not in batch:
        return LossReading(inputs, batch["targets"][task])
    return LossReading(inputs, batch["targets"][task], (batch["partner"][task], batch["share"][task]))


class Readings(NamedTuple):
    """What the two losses of a step are read on.

    Attributes:
        task: whose losses they are.
        own: whether tasks have examples of their own.
        here: the learned loss, in each step of the model that is looked ahead.
        there: the given one, after these.
        processes: that each predict for a part of the inputs; None where one predicts for all.
    """

    task: str
    own: bool
    here: Sequence[LossReading]
    there: LossReading
    processes: Processes | None = None

    def loss(self, loss: Callable[[Tensor, Tensor], Tensor], model: nn.Module, reading: LossReading) -> Tensor:
        """A loss of a model's prediction for the task."""
        prediction = self._prediction(model, reading.inputs)
        found = loss(prediction, reading.target)
        if not reading.mixed:
            return found
        partner, share = reading.mixed
        mixed: Tensor = share * found + (1 - share) * loss(prediction, partner)
        return mixed

    def _prediction(self, model: nn.Module, inputs: Any) -> Tensor:
        some = {"only": (self.task,)} if self.own and isinstance(model, Shared) else {}
        with coming(model):
            if self.processes is None:
                return model(inputs, **some)[self.task]  # type: ignore[no-any-return]
            part = model(self.processes.part_of(inputs), **some)[self.task]
        return self.processes.gathered(part, examples(inputs))


def steps_alone(
    model: nn.Module,
    tasks: Sequence[Task],
    batch: Augmented,
    ahead: Callable[[], Augmented],
    lr: float,
    processes: Processes | None = None,
) -> list[Callable[[], None]]:
    """The steps of all learned losses that a model holds, to be made when the model has made its own.

    Nothing is drawn and no statistic changes: dropout lets everything through, and what a model draws by itself is what
    it draws in the step that follows.

    Args:
        model: at the parameters that its step begins at.
        tasks: in the order of the model's.
        batch: that it trains on.
        ahead: gives another, for losses that are learned on validation data.
        lr: of the step that is looked ahead.
        processes: that train it together, each with its part of both batches.
    """
    held = {place: loss for place, loss in learned_losses(model).items() if adapting(tasks[place])}
    other = ahead() if any(loss.spec.on == "validation" for loss in held.values()) else batch
    steps: list[Callable[[], None]] = []
    for place, loss in held.items():
        task = tasks[place].name
        there = read_alone(other if loss.spec.on == "validation" else batch, task)
        own = isinstance(batch.batch, OwnExamples)
        on = Readings(task, own, [read_alone(batch, task)], there, processes)
        gradient = gradient_alone(model, loss, on, lr)
        steps.append(partial(loss.take, moved(loss.state(), gradient, loss.spec.rate)))
    return steps


def gradient_alone(model: nn.Module, loss: LearnedLoss, on: Readings, lr: float) -> Tensor:
    """The gradient of the loss that a learned one learns from, after steps of a model, by the weights of the latter.

    Args:
        model: at the parameters that its steps begin at.
        loss: the learned one.
        on: what both are read on.
        lr: of the steps.
    """
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)

    def read(function: Callable[[Tensor, Tensor], Tensor], at: Sequence[Tensor], reading: LossReading) -> Tensor:
        swapped = {f"model.{name}": value for name, value in zip(names, at, strict=True)}
        with frozen_statistics(), undropped():
            found: Tensor = called_with(ModelCall(model, partial(on.loss, function)), swapped, reading)
        return found

    def learned(at: Sequence[Tensor], weights: Tensor, *, reading: LossReading) -> Tensor:
        return read(partial(loss.present, weights), at, reading)

    return unrolled_gradient(
        loss.weights,
        parameters,
        [partial(learned, reading=reading) for reading in on.here],
        lambda at: read(loss.given_present, at, on.there),
        lr,
        None if on.processes is None else Ranks(on.processes.group).average,
    )


def step_of_rows(
    population: Population,
    tasks: Sequence[Task],
    rates: Mapping[int, Tensor],
    batch: Mapping[str, Any],
    ahead: Callable[[], Mapping[str, Any]],
    *,
    own: bool,
) -> dict[str, Tensor]:
    """The buffers of all learned losses that a population's models hold, as they are after a step of theirs.

    Args:
        population: at the parameters that its step begins at.
        tasks: in the order of the models'.
        rates: step sizes of the losses that make a step (N, 1), by the place of the task.
        batch: that it trains on.
        ahead: gives another, for losses that are learned on validation data.
        own: whether tasks have examples of their own.
    """
    every, fixed, found = learned_losses(population.program.model), population.state["fixed"], dict[str, Tensor]()
    held = {place: every[place] for place in rates}
    other = ahead() if any(loss.spec.on == "validation" for loss in held.values()) else batch
    for place, loss in held.items():
        task = tasks[place].name
        there = read_rows(other if loss.spec.on == "validation" else batch, task, own=own)
        on = Readings(task, own, [read_rows(batch, task, own=own)], there)
        state = {name: fixed[buffer_name(place, name)] for name, _ in loss.named_buffers()}
        new = moved(state, _gradient_of_rows(population, loss, state["weights"], on), rates[place])
        found |= {buffer_name(place, name): value for name, value in new.items()}
    return found


def _gradient_of_rows(population: Population, loss: LearnedLoss, weights: Tensor, on: Readings) -> Tensor:
    program, rows, fixed = population.program, population.state["parameters"], population.state["fixed"]

    def read(function: LossFunction, at: Sequence[Tensor], batch: Any) -> Tensor:
        with undropped():
            losses, _ = program.losses(function, at[0], fixed, batch)
        return losses[0]

    def learned(model: nn.Module, batch: tuple[LossReading, Tensor]) -> Tensor:
        reading, own_weights = batch
        return on.loss(partial(loss.present, own_weights), model, reading).reshape(1)

    def given(model: nn.Module, reading: LossReading) -> Tensor:
        return on.loss(loss.given_present, model, reading).reshape(1)

    return unrolled_gradient(
        weights,
        [rows],
        [lambda at, weights: read(learned, at, (on.here[0], weights))],
        lambda at: read(given, at, on.there),
        lookahead_lr(population.values, program.shared_tensors).to(rows.dtype),
    )


def rates_of(tasks: Sequence[Sequence[Task]], like: Tensor) -> dict[int, Tensor]:
    """The step sizes (N, 1) of the losses that go on learning, by the place of the task.

    Args:
        tasks: of each member.
        like: for dtype and device.
    """
    return {
        place: torch.tensor([[loss.rate] for loss in losses], dtype=like.dtype, device=like.device)
        for place, each in enumerate(zip(*tasks, strict=True))
        if (losses := [loss for task in each if (loss := learning(task)) is not None and loss.adapts])
    }
