"""Losses with one prediction for each label: what they have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.losses.labels import known, numbers
from mtl.losses.loss import Loss, Terms

_HALVINGS = 40  # of the interval in which the best constant lies: to less than what single precision tells apart
_AT_ONCE = 2**16  # labels for which it is sought together: of pixels there are many, and these fit into a cache


@dataclass(frozen=True)
class Elementwise(Loss):
    """A mean over labels with one prediction each: predictions (N, 1) or (N, ...), labels (N,) or (N, ...)."""

    @abstractmethod
    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of each label."""

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        target = target.reshape(prediction.shape)
        there = known(target)
        return Terms(self.elements(prediction, torch.where(there, target, 0).to(prediction.dtype)), there)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return not_one_each(prediction, target)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return means(target)


@dataclass(frozen=True)
class Regression(Elementwise):
    """A mean over errors."""

    kind: ClassVar[str] = "numbers"

    @abstractmethod
    def of_error(self, error: Tensor) -> Tensor:
        """The loss of each label, from prediction minus target; convex, and zero at zero."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.of_error(prediction - target)

    def balanced(self, target: Tensor) -> Tensor:
        """The prediction at which the slopes of all labels cancel, found by halving, for each label of an example."""
        labels = floats(target).reshape(len(target), -1)
        some = max(1, _AT_ONCE // max(1, len(labels)))
        found = torch.cat([self._balanced(each.double()) for each in labels.split(some, 1)])
        return filled(found.to(torch.get_default_dtype()), target)

    def _balanced(self, labels: Tensor) -> Tensor:
        """The same of labels (N, D), for each of D."""
        low, high = _lowest(labels), -_lowest(-labels)
        for _ in range(_HALVINGS):
            middle = ((low + high) / 2).requires_grad_()
            each = self.of_error(middle - labels)
            (slope,) = torch.autograd.grad(torch.where(labels.isnan(), 0.0, each).sum(), middle)
            middle = middle.detach()
            low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
        return (low + high) / 2


@dataclass(frozen=True)
class Binary(Elementwise):
    """A mean over labels in [0, 1] with one logit each."""

    kind: ClassVar[str] = "yes or no"

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return super().complaint(prediction, target) or not_a_share(target)


@dataclass(frozen=True)
class Counts(Elementwise):
    """A mean over labels that are not negative, each predicted by the logarithm of its mean."""

    kind: ClassVar[str] = "counts"

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return super().complaint(prediction, target) or negative(target)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return means(target).clamp(min=1e-6).log()


def not_one_each(prediction: Tensor, target: Tensor) -> str | None:
    """A complaint about more or fewer predictions than labels, or None."""
    if prediction[:1].numel() == target[:1].numel():
        return None
    return (
        f"takes one output for each label: here an example has outputs of shape {shape_of(prediction)} and labels of "
        f"shape {shape_of(target)}"
    )


def not_a_share(target: Tensor) -> str | None:
    """A complaint about labels that are not in [0, 1], or None."""
    labels = target[known(target)]
    wrong = labels[(labels < 0) | (labels > 1)]
    return f"takes labels from 0 to 1: here is {wrong[0].item():g}" if len(wrong) else None


def negative(target: Tensor) -> str | None:
    """A complaint about labels below 0, or None."""
    wrong = target[known(target) & (target < 0)]
    return f"takes labels that are not negative: here is {wrong[0].item():g}" if len(wrong) else None


def floats(target: Tensor) -> Tensor:
    """Labels as floating-point numbers, the missing ones NaN."""
    return numbers(target, torch.get_default_dtype())


def means(target: Tensor) -> Tensor:
    """The mean of each label of an example."""
    return filled(floats(target).nanmean(0).reshape(-1), target)


def filled(row: Tensor, target: Tensor) -> Tensor:
    """`row` with the mean of all labels at places where no example has one."""
    return torch.where(row.isnan(), floats(target).nanmean(), row)


def shape_of(batch: Tensor) -> str:
    """The shape of one example, for messages."""
    return str(tuple(batch.shape[1:]))


def _lowest(labels: Tensor) -> Tensor:
    """Of each column; NaN where it has no label."""
    found = torch.where(labels.isnan(), torch.inf, labels).amin(0)
    return torch.where(found.isinf(), torch.nan, found)
