"""The constant prediction that is best under a loss: what a model without inputs would say."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.losses.by_class import class_frequencies
from mtl.losses.labels import by_class
from mtl.losses.loss import Loss, TaskLoss, loss_of
from mtl.losses.one_each import means


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
        Predictions (N, ...), for classes (N, ..., outputs); (N, ...) and an axis more where a loss takes several
        predictions for each label.
    """
    if takes_classes(loss, fitted_on, outputs):
        found = loss.constant(fitted_on, outputs) if isinstance(loss, Loss) else class_frequencies(fitted_on)
        row = torch.full((outputs,), -1e9, device=found.device)
        row[: len(found)] = found  # classes after the last one that occurs
        return row.expand(*labels.shape, outputs)
    row = loss.constant(fitted_on, outputs) if isinstance(loss, Loss) else mean_or_logit(loss, fitted_on, outputs)
    if row.numel() != labels[:1].numel():
        return row.expand(len(labels), *row.shape)
    return over_outputs(row.reshape(labels.shape[1:]).expand(labels.shape), outputs)


def over_outputs(values: Tensor, outputs: int) -> Tensor:
    """Predictions in the shape of labels, repeated where a label that is a number has several outputs: (N, outputs).

    So it is for a function that reads a mean and a variance, or several quantiles, as one prediction.
    """
    return values[:, None].expand(-1, outputs) if values.ndim == 1 and outputs > 1 else values


def mean_or_logit(loss: TaskLoss, target: Tensor, outputs: int) -> Tensor:
    """The mean of each label; its logit where the labels are in [0, 1] and that has the lower loss."""
    mean = means(target)
    if bool(((mean < 0) | (mean > 1)).any()):
        return mean
    rows = (mean, torch.logit(mean, 1e-6))
    guesses = [over_outputs(row.reshape(target.shape[1:]).expand(target.shape), outputs) for row in rows]
    with torch.no_grad():
        each = [float(loss_of(loss, guess, target)) for guess in guesses]
    return rows[1] if each[1] < each[0] else mean
