"""Metrics of counts against scikit-learn, on predictions that are logarithms of means."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from mtl.metrics import mae, of_counts, poisson_deviance, r2, rmse


@pytest.fixture
def films():
    """Logarithms of means, and counts of which one is missing and some are zero."""
    generator = torch.Generator().manual_seed(0)
    logarithms = torch.randn(200, 1, generator=generator, dtype=torch.float64) + 1
    counts = torch.poisson(logarithms.exp()[:, 0], generator=generator)
    assert (counts == 0).any()
    counts[3] = torch.nan
    return logarithms, counts


def streamed(metric, prediction, target):
    """The metric of examples that come fifty at a time."""
    accumulator = metric.begin()
    for start in range(0, len(target), 50):
        accumulator.update(prediction[start : start + 50], target[start : start + 50])
    return accumulator.compute()


@pytest.mark.parametrize(
    ("metric", "name", "expected"),
    [
        (poisson_deviance, "poisson_deviance", sk.mean_poisson_deviance),
        (of_counts(mae), "count_mae", sk.mean_absolute_error),
        (of_counts(rmse), "count_rmse", sk.root_mean_squared_error),
    ],
)
def test_metrics_of_counts_are_those_of_the_means(metric, name, expected, films):
    logarithms, counts = films
    there = ~counts.isnan()
    right = expected(counts[there].numpy(), np.exp(logarithms[there, 0].numpy()))
    assert metric.name == name and not metric.higher_is_better
    assert metric(logarithms, counts) == pytest.approx(right)
    assert streamed(metric, logarithms, counts) == pytest.approx(right)


def test_the_best_constant_under_the_deviance_is_the_mean(films):
    counts = films[1][~films[1].isnan()]
    best = counts.mean().log()
    values = [poisson_deviance((best + shift).expand(len(counts), 1), counts) for shift in (-0.05, 0.0, 0.05)]
    assert values[1] == min(values) and values[1] < values[0] and values[1] < values[2]


@pytest.mark.parametrize("metric", [poisson_deviance, of_counts(mae), of_counts(rmse), of_counts(r2)])
def test_a_mean_that_no_float_holds_is_infinitely_wrong_and_nothing_is_warned_of(metric):
    found = metric(torch.tensor([[1000.0], [0.0]]), torch.tensor([3.0, 0.0]))
    assert found == (-np.inf if metric.higher_is_better else np.inf)


def test_counts_below_zero_and_classes_are_refused():
    with pytest.raises(ValueError, match="poisson_deviance takes labels that are not negative: here is -1"):
        poisson_deviance(torch.zeros(2, 1), torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="poisson_deviance takes one prediction for each label"):
        poisson_deviance(torch.zeros(2, 3), torch.tensor([0, 1]))
