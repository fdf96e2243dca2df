"""What losses of class logits have in common: predictions (N, ..., C), labels (N, ...) of type int64."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.losses.class_weights import wrong_length
from mtl.losses.labels import by_class, elementwise, known
from mtl.losses.loss import Loss, Terms
from mtl.losses.one_each import means, not_a_share, shape_of

_ROUNDING = 0.05  # of a sum of probabilities, in half precision too
ONE_LOGIT = "binary-cross-entropy and focal take one logit"


@dataclass(frozen=True)
class ByClass(Loss):
    """A mean over labels with a prediction for each class on the last axis."""

    kind: ClassVar[str] = "classes"

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return not_by_class(prediction, target, ONE_LOGIT) or self._wrong_weights(prediction)

    def _wrong_weights(self, prediction: Tensor) -> str | None:
        given = getattr(self, "class_weights", "none")
        return wrong_length(given, prediction.shape[-1], "class_weights")

    def by_class(self, target: Tensor, outputs: int) -> bool:  # noqa: ARG002
        return True

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return class_frequencies(target)


@dataclass(frozen=True)
class ClassesOrLogits(Loss):
    """Takes a logit for each class, or one logit for each label, which is in [0, 1] then."""

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if prediction[:1].numel() == target[:1].numel():
            return not_a_share(target)
        return not_by_class(prediction, target, "or one logit for each label")

    def by_class(self, target: Tensor, outputs: int) -> bool:
        return by_class(target, outputs)


@dataclass(frozen=True)
class OfTruth(ClassesOrLogits):
    """A mean over labels of a function of the probability that is given to the true class.

    Predictions (N, ..., C), labels (N, ...) of type int64; or one logit for each label, which is in [0, 1].
    """

    kind: ClassVar[str] = "classes"

    @abstractmethod
    def of_truth(self, log_probability: Tensor) -> Tensor:
        """The loss, from the logarithm of the probability of the true class."""

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        if not elementwise(prediction, target):
            return Terms(self.of_truth(log_probabilities(prediction, target)[1]), known(target))
        target = target.reshape(prediction.shape)
        there = known(target)
        rate = torch.where(there, target, 0).to(prediction.dtype)
        return Terms(self.of_rate(prediction, rate), there)

    def of_rate(self, logit: Tensor, rate: Tensor) -> Tensor:
        """The loss of one logit for each label, which is in [0, 1]."""
        return rate * self.of_truth(F.logsigmoid(logit)) + (1 - rate) * self.of_truth(F.logsigmoid(-logit))

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        if target.is_floating_point() or (outputs is not None and not by_class(target, outputs)):
            return torch.logit(means(target).clamp(1e-6, 1 - 1e-6))
        return class_frequencies(target)


def not_logarithms(prediction: Tensor) -> str | None:
    """A complaint about predictions that are no logarithms of probabilities, with which a loss of them has no end."""
    sums = prediction.detach().logsumexp(-1).exp()
    if bool(((sums - 1).abs() > _ROUNDING).any()):
        wrong = sums.flatten()[(sums - 1).abs().argmax()]
        return (
            "takes logarithms of probabilities, which a model that ends with a log-softmax has: here the probabilities "
            f"of a label add up to {wrong:.3g} (cross-entropy takes logits)"
        )
    return None


def log_probabilities(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of every class, and of the true one; of the first where the label is missing."""
    logs = F.log_softmax(prediction, -1)
    return logs, picked(logs, target)


def picked(values: Tensor, target: Tensor) -> Tensor:
    """The value of the true class; of the first where the label is missing."""
    return values.gather(-1, target.clamp(min=0)[..., None])[..., 0]


def class_frequencies(target: Tensor) -> Tensor:
    """The logarithm of the share of each class, up to the last that occurs."""
    counts = torch.bincount(target[known(target)]).double()
    return (counts / counts.sum()).clamp(min=1e-12).log().to(torch.get_default_dtype())


def not_by_class(prediction: Tensor, target: Tensor, otherwise: str) -> str | None:
    """Why predictions and labels are not those of classes, or None when they are."""
    if target.dtype != torch.int64:
        return f"takes classes of type int64 as labels: here they are of {str(target.dtype).removeprefix('torch.')}"
    classes = prediction.shape[-1] if prediction.ndim > 1 else 1
    if classes < 2 or prediction.shape[1:-1] != target.shape[1:]:
        return (
            f"takes a logit for each class on the last axis: here an example has outputs of shape "
            f"{shape_of(prediction)} and labels of shape {shape_of(target)} ({otherwise})"
        )
    labels = target[known(target)]
    wrong = labels[(labels < 0) | (labels >= classes)]
    return f"takes classes from 0 to {classes - 1}: here is {int(wrong[0])}" if len(wrong) else None
