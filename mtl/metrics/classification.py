"""Metrics of classes and of yes or no."""

from __future__ import annotations

import numpy as np

from mtl.metrics.protocol import NAN, Array, Metric, Parts

# All are written out: scikit-learn takes milliseconds to check their arguments, and a population of 64 runs with many
# tasks asks for thousands.


def decided(guess: Array, truth: Array) -> tuple[Array, Array]:
    """Predicted and true classes; where there is one logit for each label, whether it is positive."""
    return (guess > 0, truth > 0.5) if guess.shape == truth.shape else (guess.argmax(-1), truth)


def confusion(guess: Array, truth: Array) -> Array:
    """How many labels of each class (rows) were predicted as each class (columns), (C, C)."""
    classes = 2 if guess.shape == truth.shape else guess.shape[-1]
    predicted, true = (each.ravel().astype(np.int64) for each in decided(guess, truth))
    if len(true) and not 0 <= true.min() <= true.max() < classes:
        raise ValueError(f"labels must be classes from 0 to {classes - 1}: here are {true.min()} to {true.max()}")
    counted = np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    return counted.astype(np.float64)


def mean_of(values: Array) -> Array:
    """The summary of a mean: the sum and the number of values."""
    return np.array([values.sum(), values.size], np.float64)


def ratio(summary: Array) -> float:
    """The mean."""
    return float(summary[0] / summary[1])


def _binary(name: str, guess: Array, truth: Array) -> Array:
    """Labels as 0 and 1, of which there is one for each prediction."""
    if guess.shape != truth.shape:
        raise ValueError(f"{name} takes one logit for each label: here are {guess.shape[-1]} for each")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"{name} takes labels that are 0 or 1: here is {truth[~np.isin(truth, (0, 1))][0]:g}")
    return truth.ravel() > 0


def same_shape(name: str, guess: Array, truth: Array) -> None:
    """Raise `ValueError` where there is not one prediction for each label."""
    if guess.shape != truth.shape:
        raise ValueError(f"{name} takes one prediction for each label: here are {guess.shape[-1]} for each")


def _accuracy(guess: Array, truth: Array) -> float:
    predicted, true = decided(guess, truth)
    return float((predicted == true).mean())


def _right(guess: Array, truth: Array) -> Array:
    predicted, true = decided(guess, truth)
    return mean_of(predicted == true)


def _balanced_accuracy(guess: Array, truth: Array) -> float:
    predicted, true = decided(guess, truth)
    return float(np.mean([(predicted[true == each] == each).mean() for each in np.unique(true)]))


def _balanced(counted: Array) -> float:
    there = counted.sum(1) > 0
    return float((counted.diagonal()[there] / counted.sum(1)[there]).mean())


def _binary_accuracy(guess: Array, truth: Array) -> float:
    same_shape("binary_accuracy", guess, truth)
    return _accuracy(guess, truth)


def _binary_right(guess: Array, truth: Array) -> Array:
    same_shape("binary_accuracy", guess, truth)
    return _right(guess, truth)


def _f1(guess: Array, truth: Array) -> float:
    """Of the positive class; undefined without a positive label."""
    true = _binary("f1", guess, truth)
    return _f1_of(guess.ravel() > 0, true) if true.any() else NAN


def _positives(guess: Array, truth: Array) -> Array:
    """Right, predicted and true positives."""
    true, predicted = _binary("f1", guess, truth), guess.ravel() > 0
    return np.array([(predicted & true).sum(), predicted.sum(), true.sum()], np.float64)


def _f1_of_positives(summary: Array) -> float:
    right, predicted, true = summary
    return float(2 * right / (predicted + true)) if true else NAN


def _macro_f1(guess: Array, truth: Array) -> float:
    predicted, true = (each.ravel() for each in decided(guess, truth))
    return float(np.mean([_f1_of(predicted == each, true == each) for each in np.union1d(predicted, true)]))


def _macro_f1_of(counted: Array) -> float:
    both = counted.sum(0) + counted.sum(1)
    return float((2 * counted.diagonal()[both > 0] / both[both > 0]).mean())


def _f1_of(predicted: Array, true: Array) -> float:
    return float(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))


def _auc(guess: Array, truth: Array) -> float:
    """Share of pairs of a positive and a negative label that are in order; ties count half (Mann and Whitney 1947)."""
    true = _binary("auc", guess, truth)
    positive = int(true.sum())
    if not 0 < positive < len(true):
        return NAN
    _, place, count = np.unique(guess.ravel(), return_inverse=True, return_counts=True)
    rank = count.cumsum() - (count - 1) / 2  # of equal predictions the mean of theirs
    above = rank[place.ravel()[true]].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(true) - positive)))


def _average_precision(guess: Array, truth: Array) -> float:
    """The sum over thresholds, from high to low, of the precision there times how much the recall grows."""
    true = _binary("average_precision", guess, truth)
    if not true.any():
        return NAN
    values, place = np.unique(guess.ravel(), return_inverse=True)
    every = np.bincount(place.ravel(), minlength=len(values))[::-1]
    right = np.bincount(place.ravel()[true], minlength=len(values))[::-1]
    return float((right * (right.cumsum() / every.cumsum())).sum() / true.sum())


def _log_loss(guess: Array, truth: Array) -> float:
    return float(_negative_log_likelihood(guess, truth).mean())


def _log_loss_parts(guess: Array, truth: Array) -> Array:
    return mean_of(_negative_log_likelihood(guess, truth))


def _negative_log_likelihood(guess: Array, truth: Array) -> Array:
    if guess.shape == truth.shape:
        each: Array = np.logaddexp(0, guess) - truth * guess
        return each
    peak = guess.max(-1, keepdims=True)
    total = peak[..., 0] + np.log(np.exp(guess - peak).sum(-1))
    of_classes: Array = total - np.take_along_axis(guess, truth[..., None], -1)[..., 0]
    return of_classes


#: Share of right classes; with one logit for each label, of labels on the right side of 0.
accuracy = Metric("accuracy", _accuracy, True, 1.0, parts=Parts(_right, ratio))
#: The mean over classes of the share of their labels that are predicted right.
balanced_accuracy = Metric("balanced_accuracy", _balanced_accuracy, True, 1.0, parts=Parts(confusion, _balanced))
#: `accuracy` of one logit for each label, and of nothing else.
binary_accuracy = Metric("accuracy", _binary_accuracy, True, 1.0, parts=Parts(_binary_right, ratio))
#: F1 of the positive class from one logit for each label, over all labels together.
f1 = Metric("f1", _f1, True, 1.0, parts=Parts(_positives, _f1_of_positives))
#: The mean of the F1 of all classes that occur among labels or predictions.
macro_f1 = Metric("macro_f1", _macro_f1, True, 1.0, parts=Parts(confusion, _macro_f1_of))
#: Area under the ROC curve from one logit for each label, over all labels together; holds all predictions.
auc = Metric("auc", _auc, True, 1.0)
#: Area under the precision-recall curve as a step function, from one logit for each label, over all labels together;
#: holds all predictions.
average_precision = Metric("average_precision", _average_precision, True, 1.0)
#: Mean negative log-likelihood of logits, one for each label or one for each class.
log_loss = Metric("log_loss", _log_loss, False, 0.0, parts=Parts(_log_loss_parts, ratio))
