"""The losses of a run that are learned while it trains: buffers of its model, so that they go wherever it goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mtl.benchmarks.benchmark import Task
from mtl.losses import Learned, LearnedLoss
from mtl.strategies.strategy import Strategy

_HELD = "mtl_learned_losses"
#: Signals that compare losses of one batch, or of two splits, at different times, between which the loss changes.
_TIMED = {"after": "reads losses again after the step", "align": "reads losses of another split"}
_TIMED["implicit"] = _TIMED["align"]


def with_learned(model: nn.Module, tasks: Sequence[Task]) -> nn.Module:
    """A model that holds what is learned of the losses of its tasks; as it was, where nothing is."""
    held = {str(place): LearnedLoss(loss) for place, task in enumerate(tasks) if (loss := learning(task)) is not None}
    if held:
        model.add_module(_HELD, nn.ModuleDict(held))
    return model


def learning(task: Task) -> Learned | None:
    """The loss of a task, if it is learned while the model trains, or before."""
    return task.loss if isinstance(task.loss, Learned) and task.loss.learns else None


def adapting(task: Task) -> bool:
    """Whether the loss of a task is another one from step to step."""
    loss = learning(task)
    return loss is not None and loss.adapts


def learned_losses(model: nn.Module) -> dict[int, LearnedLoss]:
    """The losses that a model holds, by the place of their task."""
    return {int(place): loss for place, loss in getattr(model, _HELD, {}).items()}


def training_tasks(model: nn.Module, tasks: Sequence[Task]) -> Sequence[Task]:
    """The tasks with the losses that a model is trained on, those that it holds as they are now."""
    held = learned_losses(model)
    if not held:
        return tasks
    return [dataclasses.replace(task, loss=held.get(place, task.loss)) for place, task in enumerate(tasks)]


def is_learned(name: str) -> bool:
    """Whether a tensor of a model's state belongs to a learned loss, by its name."""
    return name.startswith(f"{_HELD}.")


def buffer_name(place: int, name: str) -> str:
    """The name in a model's state of a buffer of the learned loss of a task."""
    return f"{_HELD}.{place}.{name}"


def without_learned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the model itself."""
    return {name: value for name, value in state.items() if not is_learned(name)}


def still_learned(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned losses in a model's state, as another model has them; its own where that has none of their size."""

    def fits(name: str) -> bool:
        weights = f"{name.rpartition('.')[0]}.weights"
        return weights in other and other[weights].shape == own[weights].shape

    return {name: other[name] if fits(name) else value for name, value in own.items() if is_learned(name)}


def in_place_of(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of another model with the same parameters, one after another under the names of an own one.

    Layers without parameters, as those of dropout, may give them other names. Learned losses are those of
    `still_learned`.

    Raises:
        ValueError: the models have unlike many tensors, or of unlike shapes.
    """
    here, there = without_learned(own), without_learned(other)
    if [value.shape for value in here.values()] != [value.shape for value in there.values()]:
        raise ValueError("a member cannot keep its parameters: the model of its new settings has others")
    values = dict(zip(here, there.values(), strict=True)) | still_learned(own, other)
    return {name: values[name] for name in own}


def lost(model: nn.Module) -> int:
    """Steps of the learned losses that a model holds which were not made, as their gradient was not finite."""
    return sum(int(loss.lost) for loss in learned_losses(model).values())


def with_lost(skipped: dict[str, int], steps: int) -> dict[str, int]:
    """Steps by what was wrong in them, and those of learned losses among them."""
    if not steps:
        return skipped
    return {**skipped, "nonfinite_signal": skipped.get("nonfinite_signal", 0) + steps}


def found_losses(tasks: Sequence[Task], state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """What was learned, by task, as the contents of a file that `learned:start=FILE` takes."""
    return {
        task.name: loss.described(state[buffer_name(place, "weights")])
        for place, task in enumerate(tasks)
        if (loss := learning(task)) is not None
    }


def check_learning(tasks: Sequence[Task], strategy: Strategy) -> None:
    """Raise `ValueError` where a task's loss is learned and the strategy does not allow it."""
    learned = next(filter(adapting, tasks), None)
    if learned is None:
        return
    where = f"task {learned.name!r}: its loss {learned.loss} is learned while the model trains"
    for signal, reason in _TIMED.items():
        if signal in strategy.needs:
            raise ValueError(f"{where}, and {strategy} {reason}, when it is another loss: take another strategy")
