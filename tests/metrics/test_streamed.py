"""Metrics of examples that come a few at a time are those of all at once."""

import math

import numpy as np
import pytest
import torch

from mtl import metrics
from mtl.losses import IGNORE
from mtl.metrics import Metric

OURS = [value for value in vars(metrics).values() if isinstance(value, Metric)]
BINARY = {"f1", "auc", "average_precision", "log_loss"}


def examples(metric, generator):
    """Predictions and labels that the metric takes, some of them missing."""
    size = (40, 6, 5)
    if metric.vectors:
        guess, truth = torch.randn(40, 3, 6, 5, generator=generator), torch.randn(40, 3, 6, 5, generator=generator)
        truth[:, :, 2, 3] = torch.nan
        truth[7, :, 0, 0] = 0
        return guess, truth
    gone = torch.rand(size, generator=generator) < 0.1
    if metric is metrics.binary_accuracy or metric.name in BINARY:
        truth = torch.randint(2, size, generator=generator).float()
        return torch.randn(size, generator=generator), truth.masked_fill(gone, torch.nan)
    if "accuracy" in metric.name or metric.name in ("miou", "macro_f1"):
        truth = torch.randint(4, size, generator=generator)
        return torch.randn(40, 4, 6, 5, generator=generator), truth.masked_fill(gone, IGNORE)
    if metric is metrics.poisson_deviance:
        guess = torch.randn(size, generator=generator)
        return guess, torch.poisson(guess.exp(), generator=generator).masked_fill(gone, torch.nan)
    truth = 100 + torch.randn(size, generator=generator)
    return truth + torch.randn(size, generator=generator), truth.masked_fill(gone, torch.nan)


@pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("sizes", [(40,), (1, 20, 19), (5,) * 8], ids=str)
def test_all_at_once_and_a_few_at_a_time_are_the_same(metric, sizes):
    guess, truth = examples(metric, torch.Generator().manual_seed(0))
    accumulator = metric.begin()
    for one, other in zip(guess.split(sizes), truth.split(sizes), strict=True):
        accumulator.update(one, other)
    tolerance = 0.01 if metric.name == "median_angle" else 1e-9
    assert math.isfinite(accumulator.compute())
    assert accumulator.compute() == pytest.approx(metric(guess, truth), abs=tolerance)


@pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric.name)
def test_a_prediction_that_is_not_finite_and_no_label_at_all_have_no_value(metric):
    guess, truth = examples(metric, torch.Generator().manual_seed(1))
    none = torch.full_like(truth, torch.nan if truth.is_floating_point() else IGNORE)
    broken = guess.clone()
    broken[3] = torch.nan
    for prediction, labels in ((guess, none), (broken, truth)):
        accumulator = metric.begin()
        accumulator.update(prediction[:20], labels[:20])
        accumulator.update(prediction[20:], labels[20:])
        assert math.isnan(metric(prediction, labels)) and math.isnan(accumulator.compute())
    assert math.isnan(metric.begin().compute())


def test_a_user_may_give_the_summary_of_a_metric():
    def largest(guess, truth):
        return np.array([np.abs(guess - truth).max()])

    metric = Metric("largest", lambda g, t: float(np.abs(g - t).max()), False, 0.0,
                    parts=metrics.Parts(largest, lambda summary: float(summary[0]), np.maximum))  # fmt: skip
    guess, truth = torch.randn(9), torch.randn(9)
    accumulator = metric.begin()
    for one, other in zip(guess.split(4), truth.split(4), strict=True):
        accumulator.update(one, other)
    assert accumulator.compute() == metric(guess, truth) == pytest.approx(float((guess - truth).abs().max()))


def test_r2_loses_no_digits_where_the_mean_is_large():
    truth = 1e6 + torch.randn(400, dtype=torch.float64)
    guess = truth + 0.1 * torch.randn(400, dtype=torch.float64)
    accumulator = metrics.r2.begin()
    for one, other in zip(guess.split(7), truth.split(7), strict=True):
        accumulator.update(one, other)
    assert accumulator.compute() == pytest.approx(metrics.r2(guess, truth), abs=1e-9)
