"""What a loss is: the terms whose mean it is, and what it says of itself."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mtl.hyperparameters import domains, validate, write_unit
from mtl.losses.class_weights import UNRESOLVED, resolved
from mtl.losses.labels import classes_last, elementwise, numbers

REDUCTIONS = ("mean", "sum", "none")
_HALF = (torch.float16, torch.bfloat16)


class Terms(NamedTuple):
    """The numbers whose mean a loss is.

    Attributes:
        values: one for each label, or for whatever the loss adds up (examples, classes); finite everywhere.
        there: which of them count; those of missing labels do not.
        weights: how much each counts in the divisor of the mean; None for one each.
    """

    values: Tensor
    there: Tensor
    weights: Tensor | None = None

    def reduced(self, reduction: str) -> Tensor:
        """The mean (NaN when there is none), the sum, or every number, NaN where one is missing."""
        if reduction == "none":
            return torch.where(self.there, self.values, torch.nan)
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction={reduction!r} must be one of {', '.join(REDUCTIONS)}")
        total = torch.where(self.there, self.values, 0.0).sum()
        if reduction == "sum":
            return total
        counted = self.there if self.weights is None else torch.where(self.there, self.weights, 0.0)
        return total / counted.sum()


@dataclass(frozen=True)
class Loss(ABC):
    """A loss of one task, averaged over the labels that are there; NaN when a batch has none.

    Missing labels are NaN in float targets and `IGNORE` (-100) in integer ones; an example may lack some of its labels.
    Float hyperparameters may be tensors: a population gives each member its own under `torch.func.vmap`.

    Class attributes:
        name: in specs.
        formula: of one term, with p the prediction and y the label, in plain text.
        use: when to take it.
        paper: where it comes from.
        kind: of predictions and labels, one of `mtl.losses.examples.KINDS`; empty for one that does not say.
        apart: names of its parts, where a strategy weighs each as a loss of its own; empty where it weighs the whole.
    """

    name: ClassVar[str]
    formula: ClassVar[str] = ""
    use: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    apart: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        validate(self, self.name)

    @abstractmethod
    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        """What the loss is the mean of; see the class for the shapes."""

    def __call__(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """The loss.

        Predictions in half precision are computed with in float32, as torch's autocast does.

        Args:
            prediction: see the class.
            target: labels.
            reduction: `mean` and `sum` give a scalar, `none` one number for each term, NaN where the label is missing.

        Raises:
            ValueError: another reduction, or a hyperparameter that the training labels have yet to decide.
        """
        self.check_decided()
        return self.terms(widened(prediction), target).reduced(reduction)

    def each(self, prediction: Tensor, target: Tensor) -> list[Tensor]:
        """The losses that a strategy weighs, as means: one for each name in `apart`, or this one."""
        return [self(prediction, target)]

    @property
    def learns(self) -> bool:
        """Whether it changes while a model trains, so that whoever trains the model makes steps of it too."""
        return False

    @property
    def measure(self) -> Loss:
        """The loss that validation and test data are measured by: itself, but for one that is learned."""
        return self

    @abstractmethod
    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        """Why the loss cannot be taken of such predictions and labels, or None when it can.

        Args:
            prediction: of some examples, (n, ...).
            target: all labels of a split, (N, ...).
        """

    def impurity(self, prediction: Tensor, target: Tensor) -> str | None:  # noqa: ARG002
        """Why the loss is no function of predictions and labels alone, or None; ours all are.

        Args:
            prediction: of some examples (n, ...).
            target: their labels (n, ...).
        """
        return None

    def fitted(self, target: Tensor, outputs: int) -> Loss:
        """The same loss with what training labels decide, such as `class_weights=inverse`, as numbers.

        Args:
            target: all labels of the training split (N, ...), and of no other.
            outputs: width of the head.

        Raises:
            ValueError: the labels do not say, such as those without an example of a class.
        """
        classes = self.by_class(target, outputs)
        found: dict[str, Any] = {
            key: resolved(self.name, key, word, target, outputs, classes) for key, word in self.undecided().items()
        }
        return replace(self, **found) if found else self

    def check_decided(self) -> None:
        """Raise `ValueError` if a hyperparameter waits for the training labels."""
        for key, word in self.undecided().items():
            raise ValueError(
                f"{self.name}: {key}={word} is decided by the training labels: take loss.fitted(labels, outputs)"
            )

    def undecided(self) -> dict[str, str]:
        """The hyperparameters that wait for the training labels, and the word that stands for each."""
        given = {key: getattr(self, key) for key in _waiting(type(self))}
        return {key: word for key, word in given.items() if isinstance(word, str) and word in UNRESOLVED[key]}

    def by_class(self, target: Tensor, outputs: int) -> bool:  # noqa: ARG002
        """Whether it takes a prediction for each class that a label may have, rather than one for each label."""
        return False

    def wrong_start(self, classes: int) -> str | None:  # noqa: ARG002
        """Why training by it begins in a wrong direction, at predictions that are alike for all classes; None where it
        does not, or where that is not known."""
        return None

    @abstractmethod
    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        """The prediction without inputs that has the lowest loss on `target`, or is near it.

        Args:
            target: labels (N, ...).
            outputs: width of the head; as the labels have it when not given.

        Returns:
            One number for each label of an example; for classes a logit each, up to the last that occurs; for losses
            with several predictions for each label, all of them.
        """

    def __str__(self) -> str:
        return write_unit(self, self.name)


@functools.cache  # a loss is called at every step
def _waiting(cls: type[Loss]) -> tuple[str, ...]:
    """The hyperparameters of a class that may wait for the training labels."""
    return tuple(key for key in UNRESOLVED if key in domains(cls))


def widened(values: Tensor) -> Tensor:
    """In float32 what is in half precision."""
    return values.float() if values.dtype in _HALF else values


#: What a task may have as its loss.
TaskLoss = Loss | Callable[[Tensor, Tensor], Tensor]


def loss_of(loss: TaskLoss, prediction: Tensor, target: Tensor) -> Tensor:
    """The loss of predictions (N, ...) on labels (N, ...).

    A function that is not a `Loss` gets, where there is one prediction for each label, both in the shape of the labels,
    and whole numbers as floating-point ones. Otherwise `mean(abs(prediction - target))` of (N, 1) and (N,) would be the
    mean over N x N differences. Missing labels reach it as NaN, or as `IGNORE` where the labels are classes. A `Loss`
    gets the classes of a label on the last axis, wherever the model has them.
    """
    if isinstance(loss, Loss):
        return loss(classes_last(prediction, target), target)
    return beside(loss, prediction)(*aligned(prediction, target))


def beside(function: Callable[..., Tensor], prediction: Tensor) -> Callable[..., Tensor]:
    """`function`; a module with its buffers, such as weights of classes, on the device of the predictions."""
    if isinstance(function, nn.Module) and any(each.device != prediction.device for each in tensors_of(function)):
        function.to(prediction.device)
    return function


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Buffers, and parameters: those of a loss are frozen, such as a network that compares pictures."""
    yield from module.buffers()
    yield from module.parameters()


def losses_of(loss: TaskLoss, prediction: Tensor, target: Tensor) -> list[Tensor]:
    """The losses that a strategy weighs, scalars: those of the parts that are weighed apart, or that of `loss_of`."""
    if isinstance(loss, Loss) and loss.apart:
        return [each.reshape(()) for each in loss.each(classes_last(prediction, target), target)]
    return [loss_of(loss, prediction, target)]


def measure_of(loss: TaskLoss) -> TaskLoss:
    """The loss by which validation and test data of a task with this loss are measured."""
    return loss.measure if isinstance(loss, Loss) else loss


def aligned(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the shape of the labels where there is one prediction for each; otherwise as they are."""
    if not elementwise(prediction, target):
        return prediction, target
    return prediction.reshape(target.shape), numbers(target, prediction.dtype)
