"""Metrics of a task: which way is better, what is perfect, and how they are computed from the labels that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mtl.losses.labels import elementwise, known

Array = npt.NDArray[Any]

NAN = float("nan")


@dataclass(frozen=True)
class Metric:
    """A number for predictions and labels.

    Args:
        name: as shown in results.
        function: from predictions and labels without missing ones, as NumPy arrays. With one prediction for each label
            both are of one shape, (n, outputs), or (n, 1) where some labels of an example are missing. With one for
            each class they are (n, C) and (n,). NaN says that the metric is undefined for these.
        higher_is_better: which way is better.
        perfect: the value of perfect predictions.
        by_output: compute it for each output by itself and take the mean, as is usual for R² and RMSE.
    """

    name: str
    function: Callable[[Array, Array], float]
    higher_is_better: bool
    perfect: float
    by_output: bool = False

    def __call__(self, prediction: Tensor, target: Tensor) -> float:
        """The metric over the labels that are there.

        Args:
            prediction: (N, ...), one for each label, or (N, ..., C) for labels of C classes.
            target: labels (N, ...); missing ones are NaN or -100.

        Returns:
            NaN when there is no label, when the prediction of one is not finite, or where the metric is undefined.
        """
        there = known(target).cpu().numpy()
        labels = target.detach().double() if target.is_floating_point() else target.detach()
        guess, truth = prediction.detach().double().cpu().numpy(), labels.cpu().numpy()
        if not elementwise(prediction, target):
            if prediction.shape[:-1] != target.shape:
                raise ValueError(
                    f"{self.name} takes a prediction for each label, or for each of its classes on the last axis: here "
                    f"predictions have shape {tuple(prediction.shape)} and labels {tuple(target.shape)}"
                )
            return self._of(guess[there], truth[there])
        guess, truth, there = (each.reshape(len(each), -1) for each in (guess, truth, there))
        if self.by_output:
            columns = [
                (guess[rows, k][:, None], truth[rows, k][:, None]) for k, rows in enumerate(there.T) if rows.any()
            ]
            return float(np.mean([self._of(*column) for column in columns])) if columns else NAN
        some = there.any(1)
        if there[some].all():
            return self._of(guess[some], truth[some])
        return self._of(guess[there][:, None], truth[there][:, None])

    def _of(self, guess: Array, truth: Array) -> float:
        if len(truth) == 0 or not np.isfinite(guess).all():
            return NAN
        return float(self.function(guess, truth))

    def skill(self, value: float, reference: float) -> float:
        """How much of the way from a reference forecast to perfection was made: 1 is perfect, 0 no better.

        The skill score of forecast verification (Murphy 1988), (A - A_ref) / (A_perfect - A_ref); NaN where the
        reference is perfect.
        """
        way = self.perfect - reference
        return (value - reference) / way if way else NAN


def _decided(guess: Array, truth: Array) -> tuple[Array, Array]:
    """Predicted and true classes; where there is one logit for each label, whether it is positive."""
    return (guess > 0, truth > 0.5) if guess.shape == truth.shape else (guess.argmax(-1), truth)


def _binary(name: str, guess: Array, truth: Array) -> Array:
    """Labels as 0 and 1, of which there is one for each prediction."""
    if guess.shape != truth.shape:
        raise ValueError(f"{name} takes one logit for each label: here are {guess.shape[-1]} for each")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"{name} takes labels that are 0 or 1: here is {truth[~np.isin(truth, (0, 1))][0]:g}")
    return truth.ravel() > 0


def _same_shape(name: str, guess: Array, truth: Array) -> None:
    if guess.shape != truth.shape:
        raise ValueError(f"{name} takes one prediction for each label: here are {guess.shape[-1]} for each")


# The plain means are written out: scikit-learn takes a millisecond to check their arguments, and a population of 64
# runs asks for thousands.


def _accuracy(guess: Array, truth: Array) -> float:
    predicted, true = _decided(guess, truth)
    return float((predicted == true).mean())


def _balanced_accuracy(guess: Array, truth: Array) -> float:
    predicted, true = _decided(guess, truth)
    return float(np.mean([(predicted[true == each] == each).mean() for each in np.unique(true)]))


def _binary_accuracy(guess: Array, truth: Array) -> float:
    _same_shape("binary_accuracy", guess, truth)
    return _accuracy(guess, truth)


def _f1(guess: Array, truth: Array) -> float:
    """Of the positive class; undefined without a positive label."""
    true = _binary("f1", guess, truth)
    return _f1_of(guess.ravel() > 0, true) if true.any() else NAN


def _macro_f1(guess: Array, truth: Array) -> float:
    predicted, true = (each.ravel() for each in _decided(guess, truth))
    return float(np.mean([_f1_of(predicted == each, true == each) for each in np.union1d(predicted, true)]))


def _f1_of(predicted: Array, true: Array) -> float:
    return float(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))


def _auc(guess: Array, truth: Array) -> float:
    true = _binary("auc", guess, truth)
    return _sklearn("roc_auc_score", true, guess.ravel()) if true.any() and not true.all() else NAN


def _average_precision(guess: Array, truth: Array) -> float:
    true = _binary("average_precision", guess, truth)
    return _sklearn("average_precision_score", true, guess.ravel()) if true.any() else NAN


def _log_loss(guess: Array, truth: Array) -> float:
    if guess.shape == truth.shape:
        return float((np.logaddexp(0, guess) - truth * guess).mean())
    peak = guess.max(-1, keepdims=True)
    total = peak[..., 0] + np.log(np.exp(guess - peak).sum(-1))
    return float((total - np.take_along_axis(guess, truth[..., None], -1)[..., 0]).mean())


def _mae(guess: Array, truth: Array) -> float:
    _same_shape("mae", guess, truth)
    return float(np.abs(guess - truth).mean())


def _rmse(guess: Array, truth: Array) -> float:
    _same_shape("rmse", guess, truth)
    return float(np.sqrt(np.square(guess - truth).mean()))


def _r2(guess: Array, truth: Array) -> float:
    """Undefined where all labels are equal."""
    _same_shape("r2", guess, truth)
    spread = np.square(truth - truth.mean()).sum()
    return float(1 - np.square(guess - truth).sum() / spread) if truth.min() < truth.max() else NAN


def _sklearn(name: str, *arguments: Array) -> float:
    from sklearn import metrics  # takes more than a second to import, which most commands spare

    return float(getattr(metrics, name)(*arguments))


#: Share of right classes; with one logit for each label, of labels on the right side of 0.
accuracy = Metric("accuracy", _accuracy, True, 1.0)
#: The mean over classes of the share of their labels that are predicted right.
balanced_accuracy = Metric("balanced_accuracy", _balanced_accuracy, True, 1.0)
#: `accuracy` of one logit for each label, and of nothing else.
binary_accuracy = Metric("accuracy", _binary_accuracy, True, 1.0)
#: F1 of the positive class from one logit for each label, over all labels together.
f1 = Metric("f1", _f1, True, 1.0)
#: The mean of the F1 of all classes that occur among labels or predictions.
macro_f1 = Metric("macro_f1", _macro_f1, True, 1.0)
#: Area under the ROC curve from one logit for each label, over all labels together.
auc = Metric("auc", _auc, True, 1.0)
#: Area under the precision-recall curve as a step function, from one logit for each label, over all labels together.
average_precision = Metric("average_precision", _average_precision, True, 1.0)
#: Mean negative log-likelihood of logits, one for each label or one for each class.
log_loss = Metric("log_loss", _log_loss, False, 0.0)
#: Mean absolute error over all labels.
mae = Metric("mae", _mae, False, 0.0)
#: Root mean squared error of each output, and the mean of these.
rmse = Metric("rmse", _rmse, False, 0.0, by_output=True)
#: Share of the variance that is explained, of each output, and the mean of these.
r2 = Metric("r2", _r2, True, 1.0, by_output=True)
