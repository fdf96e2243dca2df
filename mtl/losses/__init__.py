"""Task losses, with their own hyperparameters, and the constant prediction that is best under each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.hyperparameters import hyper, read_unit, validate, write_unit
from mtl.losses.labels import IGNORE, by_class, elementwise, known, numbers

__all__ = [
    "IGNORE",
    "LOSSES",
    "Loss",
    "TaskLoss",
    "constant_prediction",
    "loss_of",
    "make_loss",
    "over_outputs",
    "takes_classes",
]


@dataclass(frozen=True)
class Loss(ABC):
    """A loss of one task, averaged over the labels that are there; NaN when a batch has none.

    Missing labels are NaN in float targets and `IGNORE` (-100) in integer ones; an example may lack some of its labels.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        validate(self, self.name)

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean loss, a scalar; see the class for the shapes."""

    @abstractmethod
    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        """Why the loss cannot be taken of such predictions and labels, or None when it can.

        Args:
            prediction: of some examples, (n, ...).
            target: all labels of a split, (N, ...).
        """

    def by_class(self, target: Tensor, outputs: int) -> bool:  # noqa: ARG002
        """Whether it takes a prediction for each class that a label may have, rather than one for each label."""
        return False

    @abstractmethod
    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        """The prediction without inputs that has the lowest loss on `target`, or is near it.

        Args:
            target: labels (N, ...).
            outputs: width of the head; as the labels have it when not given.

        Returns:
            One number for each label of an example; for classes a logit each, up to the last that occurs.
        """

    def __str__(self) -> str:
        return write_unit(self, self.name)


#: What a task may have as its loss.
TaskLoss = Loss | Callable[[Tensor, Tensor], Tensor]


def loss_of(loss: TaskLoss, prediction: Tensor, target: Tensor) -> Tensor:
    """The loss of predictions (N, ...) on labels (N, ...).

    A function that is not a `Loss` gets, where there is one prediction for each label, both in the shape of the labels,
    and whole numbers as floating-point ones. Otherwise `mean(abs(prediction - target))` of (N, 1) and (N,) would be the
    mean over N x N differences. Missing labels reach it as NaN, or as `IGNORE` where the labels are classes.
    """
    if not isinstance(loss, Loss) and elementwise(prediction, target):
        return loss(prediction.reshape(target.shape), numbers(target, prediction.dtype))
    return loss(prediction, target)


@dataclass(frozen=True)
class _Elementwise(Loss):
    """A mean over labels with one prediction each: predictions (N, 1) or (N, ...), labels (N,) or (N, ...)."""

    @abstractmethod
    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of each label."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        target = target.reshape(prediction.shape)
        there = known(target)
        each = self.elements(prediction, torch.where(there, target, 0).to(prediction.dtype))
        return torch.where(there, each, 0.0).sum() / there.sum()

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if prediction[:1].numel() != target[:1].numel():
            return (
                f"takes one output for each label: here an example has outputs of shape {_shape(prediction)} "
                f"and labels of shape {_shape(target)}"
            )
        return None

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return _filled(_floats(target).nanmean(0).reshape(-1), target)


@dataclass(frozen=True)
class _Regression(_Elementwise):
    """A mean over errors."""

    @abstractmethod
    def of_error(self, error: Tensor) -> Tensor:
        """The loss of each label, from prediction minus target."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.of_error(prediction - target)


@dataclass(frozen=True)
class MSE(_Regression):
    """Mean squared error."""

    name: ClassVar[str] = "mse"

    def of_error(self, error: Tensor) -> Tensor:
        return error**2


@dataclass(frozen=True)
class MAE(_Regression):
    """Mean absolute error."""

    name: ClassVar[str] = "mae"

    def of_error(self, error: Tensor) -> Tensor:
        return error.abs()

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return _filled(_floats(target).nanmedian(0).values.reshape(-1), target)


@dataclass(frozen=True)
class Huber(_Regression):
    """Squared error up to `delta`, absolute beyond (Huber 1964)."""

    name: ClassVar[str] = "huber"
    delta: float = hyper(1.0, 1e-6, search=(0.1, 3.0), log=True, doc="error at which the loss turns linear")

    def of_error(self, error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size <= self.delta, error**2 / 2, self.delta * (size - self.delta / 2))


@dataclass(frozen=True)
class Quantile(_Regression):
    """Pinball loss of the `q` quantile (Koenker & Bassett 1978)."""

    name: ClassVar[str] = "quantile"
    q: float = hyper(0.5, 0.0, 1.0, search=(0.1, 0.9), doc="quantile that is predicted")

    def of_error(self, error: Tensor) -> Tensor:
        return torch.maximum(-self.q * error, (1 - self.q) * error)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return _filled(_floats(target).nanquantile(float(self.q), 0).reshape(-1), target)


@dataclass(frozen=True)
class _Binary(_Elementwise):
    """A mean over labels in [0, 1] with one logit each."""

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if misfit := super().complaint(prediction, target):
            return misfit
        labels = target[known(target)]
        wrong = labels[(labels < 0) | (labels > 1)]
        return f"takes labels from 0 to 1: here is {wrong[0].item():g}" if len(wrong) else None


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of class logits: predictions (N, ..., C), labels (N, ...) of type int64."""

    name: ClassVar[str] = "cross-entropy"
    label_smoothing: float = hyper(0.0, 0.0, 1.0, search=(0.0, 0.3), doc="share of the target spread over all classes")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        logs, picked = _log_probabilities(prediction, target)
        return _mean_of_known(-(1 - self.label_smoothing) * picked - self.label_smoothing * logs.mean(-1), target)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return _not_by_class(prediction, target, "binary-cross-entropy and focal take one logit")

    def by_class(self, target: Tensor, outputs: int) -> bool:  # noqa: ARG002
        return True

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return class_frequencies(target)


@dataclass(frozen=True)
class Focal(Loss):
    """Cross-entropy weighed by (1 - p)^gamma, p the probability of the true class (Lin et al. 2017, eq. 4).

    Predictions (N, ..., C), labels (N, ...) of type int64; or one logit for each label, which is in [0, 1].
    """

    name: ClassVar[str] = "focal"
    gamma: float = hyper(2.0, 0.0, search=(0.5, 5.0), doc="how strongly easy examples are discounted")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        if not elementwise(prediction, target):
            picked = _log_probabilities(prediction, target)[1]
            return _mean_of_known(self._weighed(picked), target)
        target = target.reshape(prediction.shape)
        rate = torch.where(known(target), target, 0).to(prediction.dtype)
        positive, negative = F.logsigmoid(prediction), F.logsigmoid(-prediction)
        return _mean_of_known(rate * self._weighed(positive) + (1 - rate) * self._weighed(negative), target)

    def _weighed(self, log_probability: Tensor) -> Tensor:
        # At p = 1 a power below one has no slope, and no slope times a logarithm of zero would be NaN.
        rest = (-torch.expm1(log_probability)).clamp(min=torch.finfo(log_probability.dtype).tiny)
        return -(rest**self.gamma) * log_probability

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if prediction[:1].numel() == target[:1].numel():
            return BinaryCrossEntropy().complaint(prediction, target)
        return _not_by_class(prediction, target, "or one logit for each label")

    def by_class(self, target: Tensor, outputs: int) -> bool:
        return by_class(target, outputs)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        if target.is_floating_point() or (outputs is not None and not by_class(target, outputs)):
            return BinaryCrossEntropy().constant(target)
        return class_frequencies(target)


@dataclass(frozen=True)
class BinaryCrossEntropy(_Binary):
    """Binary cross-entropy of logits: one for each label, which is in [0, 1]."""

    name: ClassVar[str] = "binary-cross-entropy"
    positive_weight: float = hyper(1.0, 0.0, search=(0.2, 5.0), log=True, doc="weight of the positive class")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -(self.positive_weight * target * F.logsigmoid(prediction) + (1 - target) * F.logsigmoid(-prediction))

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        rate = super().constant(target, outputs).clamp(1e-6, 1 - 1e-6)
        return torch.log(self.positive_weight * rate / (1 - rate))


def class_frequencies(target: Tensor) -> Tensor:
    """The logarithm of the share of each class, up to the last that occurs."""
    counts = torch.bincount(target[known(target)]).double()
    return (counts / counts.sum()).clamp(min=1e-12).log().to(torch.get_default_dtype())


def takes_classes(loss: TaskLoss, target: Tensor, outputs: int) -> bool:
    """Whether a task with this loss, these labels (N, ...) and head predicts classes; of a function the labels tell."""
    return loss.by_class(target, outputs) if isinstance(loss, Loss) else by_class(target, outputs)


def constant_prediction(loss: TaskLoss, fitted_on: Tensor, labels: Tensor, outputs: int) -> Tensor:
    """The prediction without inputs that is best on the labels `fitted_on`, for each of the examples of `labels`.

    Of a function that is not a `Loss` it is the share of each class, or the mean; of labels in [0, 1] the mean or its
    logit, whichever has the lower loss.

    Args:
        loss: of the task.
        fitted_on: labels (M, ...).
        labels: labels (N, ...), of which only the shape counts.
        outputs: width of the head.

    Returns:
        Predictions (N, ...), for classes (N, ..., outputs).
    """
    if not takes_classes(loss, fitted_on, outputs):
        row = loss.constant(fitted_on, outputs) if isinstance(loss, Loss) else _mean_or_logit(loss, fitted_on, outputs)
        return over_outputs(row.reshape(labels.shape[1:]).expand(labels.shape), outputs)
    found = loss.constant(fitted_on, outputs) if isinstance(loss, Loss) else class_frequencies(fitted_on)
    row = torch.full((outputs,), -1e9, device=found.device)
    row[: len(found)] = found  # classes after the last one that occurs
    return row.expand(*labels.shape, outputs)


def over_outputs(values: Tensor, outputs: int) -> Tensor:
    """Predictions in the shape of labels, repeated where a label that is a number has several outputs: (N, outputs).

    So it is for a function that reads a mean and a variance, or several quantiles, as one prediction.
    """
    return values[:, None].expand(-1, outputs) if values.ndim == 1 and outputs > 1 else values


def _mean_or_logit(loss: TaskLoss, target: Tensor, outputs: int) -> Tensor:
    mean = _filled(_floats(target).nanmean(0).reshape(-1), target)
    if bool(((mean < 0) | (mean > 1)).any()):
        return mean
    rows = (mean, torch.logit(mean, 1e-6))
    guesses = [over_outputs(row.reshape(target.shape[1:]).expand(target.shape), outputs) for row in rows]
    with torch.no_grad():
        each = [float(loss_of(loss, guess, target)) for guess in guesses]
    return rows[1] if each[1] < each[0] else mean


def _log_probabilities(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of every class, and of the true one; of the first where the label is missing."""
    logs = F.log_softmax(prediction, -1)
    return logs, logs.gather(-1, target.clamp(min=0)[..., None])[..., 0]


def _mean_of_known(each: Tensor, target: Tensor) -> Tensor:
    there = known(target)
    return torch.where(there, each, 0.0).sum() / there.sum()


def _not_by_class(prediction: Tensor, target: Tensor, otherwise: str) -> str | None:
    if target.dtype != torch.int64:
        return f"takes classes of type int64 as labels: here they are of {str(target.dtype).removeprefix('torch.')}"
    classes = prediction.shape[-1] if prediction.ndim > 1 else 1
    if classes < 2 or prediction.shape[1:-1] != target.shape[1:]:
        return (
            f"takes a logit for each class on the last axis: here an example has outputs of shape {_shape(prediction)} "
            f"and labels of shape {_shape(target)} ({otherwise})"
        )
    labels = target[known(target)]
    wrong = labels[(labels < 0) | (labels >= classes)]
    return f"takes classes from 0 to {classes - 1}: here is {int(wrong[0])}" if len(wrong) else None


def _floats(target: Tensor) -> Tensor:
    return numbers(target, torch.get_default_dtype())


def _filled(row: Tensor, target: Tensor) -> Tensor:
    """`row` with the mean of all labels at places where no example has one."""
    return torch.where(row.isnan(), _floats(target).nanmean(), row)


def _shape(batch: Tensor) -> str:
    return str(tuple(batch.shape[1:]))


LOSSES: Mapping[str, type[Loss]] = MappingProxyType(
    {cls.name: cls for cls in (BinaryCrossEntropy, CrossEntropy, Focal, Huber, MAE, MSE, Quantile)}
)


def make_loss(spec: str) -> Loss:
    """The loss that a spec such as `huber:delta=0.5` names; a `ValueError` says what is wrong with it."""
    cls, values = read_unit(spec, LOSSES, "loss")
    return cls(**values)
