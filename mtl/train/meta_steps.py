"""The steps of the losses that are learned: of one model, and of the models of a population."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl.benchmarks.benchmark import Task
from mtl.benchmarks.own import OwnExamples
from mtl.losses.learned_loss import LearnedLoss, moved
from mtl.losses.unrolled import unrolled_gradient
from mtl.models import Shared
from mtl.population.dropout import undropped
from mtl.population.population import Population
from mtl.population.program import ModelCall
from mtl.population.values import lookahead_lr
from mtl.step.passes import frozen_statistics
from mtl.train.augment import Augmented
from mtl.train.learning import buffer_name, learned_losses, learning

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


def _loss_on(
    loss: Callable[[Tensor, Tensor], Tensor], task: str, own: bool, model: nn.Module, reading: LossReading
) -> Tensor:
    """A loss of a model's prediction."""
    some = {"only": (task,)} if own and isinstance(model, Shared) else {}
    prediction: Tensor = model(reading.inputs, **some)[task]
    found = loss(prediction, reading.target)
    if not reading.mixed:
        return found
    partner, share = reading.mixed
    mixed: Tensor = share * found + (1 - share) * loss(prediction, partner)
    return mixed


def steps_alone(
    model: nn.Module, tasks: Sequence[Task], batch: Augmented, ahead: Callable[[], Augmented], lr: float
) -> list[Callable[[], None]]:
    """The steps of all learned losses that a model holds, to be made when the model has made its own.

    Nothing is drawn and no statistic changes: dropout lets everything through.

    Args:
        model: at the parameters that its step begins at.
        tasks: in the order of the model's.
        batch: that it trains on.
        ahead: gives another, for losses that are learned on validation data.
        lr: of the step that is looked ahead.
    """
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    own = isinstance(batch.batch, OwnExamples)
    other: Augmented | None = None
    steps: list[Callable[[], None]] = []
    for place, loss in learned_losses(model).items():
        task = tasks[place].name
        if loss.spec.on == "validation" and other is None:
            other = ahead()
        here = read_alone(batch, task)
        there = here if loss.spec.on == "train" or other is None else read_alone(other, task)

        def read(function: Any, at: Sequence[Tensor], reading: LossReading, task: str = task) -> Tensor:
            swapped = {f"model.{name}": value for name, value in zip(names, at, strict=True)}
            call = ModelCall(model, partial(_loss_on, function, task, own))
            with frozen_statistics(), undropped():
                found: Tensor = functional_call(call, swapped, (reading,))
            return found

        gradient = unrolled_gradient(
            loss.weights,
            parameters,
            lambda at, weights, loss=loss, here=here: read(partial(loss.present, weights), at, here),  # type: ignore[misc]
            lambda at, loss=loss, there=there: read(loss.given_present, at, there),  # type: ignore[misc]
            lr,
        )
        steps.append(partial(_write, loss, moved(loss.state(), gradient, loss.spec.rate)))
    return steps


def _write(loss: LearnedLoss, new: Mapping[str, Tensor]) -> None:
    for name, value in loss.named_buffers():
        value.copy_(new[name])


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
        rates: step sizes of the losses (N, 1), by the place of the task.
        batch: that it trains on.
        ahead: gives another, for losses that are learned on validation data.
        own: whether tasks have examples of their own.
    """
    program, state = population.program, population.state
    lr = lookahead_lr(population.values, program.shared_tensors).to(state["parameters"].dtype)
    fixed, other = state["fixed"], None
    found: dict[str, Tensor] = {}
    for place, loss in learned_losses(program.model).items():
        task = tasks[place].name
        if loss.spec.on == "validation" and other is None:
            other = ahead()
        here = read_rows(batch, task, own=own)
        there = here if loss.spec.on == "train" or other is None else read_rows(other, task, own=own)
        names = {name: buffer_name(place, name) for name, _ in loss.named_buffers()}

        def read(function: Any, rows: Tensor, given: Any) -> Tensor:
            with undropped():
                losses, _ = program.losses(function, rows, fixed, given)
            return losses[0]

        def learned(at: Sequence[Tensor], weights: Tensor, loss=loss, task=task, here=here) -> Tensor:  # type: ignore[no-untyped-def]
            def of_one(model: nn.Module, both: tuple[LossReading, Tensor]) -> dict[str, Tensor]:
                return {task: _loss_on(partial(loss.present, both[1]), task, own, model, both[0])}

            return read(of_one, at[0], (here, weights))

        def given(at: Sequence[Tensor], loss=loss, task=task, there=there) -> Tensor:  # type: ignore[no-untyped-def]
            return read(lambda model, some: {task: _loss_on(loss.given_present, task, own, model, some)}, at[0], there)

        gradient = unrolled_gradient(fixed[names["weights"]], [state["parameters"]], learned, given, lr)
        new = moved({name: fixed[full] for name, full in names.items()}, gradient, rates[place])
        found |= {full: new[name] for name, full in names.items()}
    return found


def rates_of(tasks: Sequence[Sequence[Task]], like: Tensor) -> dict[int, Tensor]:
    """The step sizes (N, 1) of learned losses, by the place of the task.

    Args:
        tasks: of each member.
        like: for dtype and device.
    """
    return {
        place: torch.tensor([[loss.rate] for loss in losses], dtype=like.dtype, device=like.device)
        for place, each in enumerate(zip(*tasks, strict=True))
        if (losses := [loss for task in each if (loss := learning(task)) is not None])
    }
