import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from mtl import metrics
from mtl.losses import IGNORE
from mtl.metrics import Metric, accuracy, auc, balanced_accuracy, binary_accuracy, mae, r2, rmse
from tests.losses.test_losses import incomplete_labels

nan = math.nan


def test_metrics_skip_missing_labels_and_are_nan_for_broken_predictions():
    logits, classes = torch.tensor([[2.0, 1], [0, 1], [3, 0]]), torch.tensor([0, 0, IGNORE])
    assert accuracy(logits, classes) == 0.5
    assert mae(torch.tensor([[1.0], [5.0]]), torch.tensor([2.0, nan])) == 1
    assert auc(torch.tensor([[0.1], [0.9]]), torch.tensor([0.0, 1.0])) == 1
    assert math.isnan(r2(torch.tensor([[nan], [1.0]]), torch.tensor([1.0, 2.0])))
    assert math.isnan(accuracy(logits, torch.full((3,), IGNORE)))


@pytest.mark.parametrize("whole_numbers", [False, True])
def test_labels_missing_within_an_example_are_left_out_one_by_one(whole_numbers):
    logits, labels = incomplete_labels(whole_numbers)
    there = (~incomplete_labels()[1].isnan()).numpy()
    guess, truth = logits.numpy().astype(float), labels.numpy()
    decided, flat = guess[there] > 0, truth[there].astype(int)
    columns = [(truth[rows, k], guess[rows, k]) for k, rows in enumerate(there.T)]
    assert there.sum() > 1600
    for metric, expected in [
        (accuracy, sk.accuracy_score(flat, decided)),
        (binary_accuracy, sk.accuracy_score(flat, decided)),
        (balanced_accuracy, sk.balanced_accuracy_score(flat, decided)),
        (auc, sk.roc_auc_score(flat, guess[there])),
        (metrics.average_precision, sk.average_precision_score(flat, guess[there])),
        (metrics.f1, sk.f1_score(flat, decided)),
        (metrics.macro_f1, sk.f1_score(flat, decided, average="macro")),
        (metrics.log_loss, sk.log_loss(flat, 1 / (1 + np.exp(-guess[there])))),
        (mae, sk.mean_absolute_error(flat, guess[there])),
        (rmse, np.mean([sk.root_mean_squared_error(*column) for column in columns])),
        (r2, np.mean([sk.r2_score(*column) for column in columns])),
    ]:
        assert metric(logits, labels) == pytest.approx(expected), metric.name


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("positives", [1, 7, 299, 300])
def test_rankings_with_and_without_ties_equal_scikit_learns(levels, positives):
    generator = torch.Generator().manual_seed(levels + positives)
    guess = torch.randint(levels, (300, 1), generator=generator) / 3 - 1
    labels = torch.zeros(300).index_fill(0, torch.randperm(300, generator=generator)[:positives], 1)
    known, flat = labels.numpy(), guess.numpy().ravel()
    expected = sk.average_precision_score(known, flat)
    assert metrics.average_precision(guess, labels) == pytest.approx(expected, rel=1e-12)
    if positives < 300:
        assert auc(guess, labels) == pytest.approx(sk.roc_auc_score(known, flat), rel=1e-12)


def test_a_map_with_invalid_pixels_has_an_error():
    depth = torch.rand(20, 8, 8)
    guess = depth[:, None] + 0.25
    depth[torch.rand(20, 8, 8) < 0.05] = nan
    assert [mae(guess, depth), rmse(guess, depth)] == pytest.approx([0.25, 0.25])


def test_functions_of_users_get_two_columns_of_the_labels_that_are_there():
    seen = []
    metric = Metric("mine", lambda guess, truth: float(seen.append((guess.shape, truth.shape)) or 0), True, 1.0)
    logits, labels = incomplete_labels()
    metric(logits, labels)
    metric(torch.zeros(5, 1), torch.arange(5.0))
    metric(torch.zeros(5), torch.tensor([IGNORE, 1, 1, 1, 0]))
    metric(torch.zeros(5, 3), torch.tensor([IGNORE, 1, 1, 1, 0]))
    there = int((~labels.isnan()).sum())
    assert seen == [((there, 1),) * 2, ((5, 1),) * 2, ((4, 1),) * 2, ((4, 3), (4,))]


@pytest.mark.parametrize("metric", [accuracy, balanced_accuracy, binary_accuracy])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_logit_is_a_yes_or_no(metric, dtype, shape):
    logits, labels = torch.tensor([3.0, -2, -1, 4]), torch.tensor([1, 0, 0, 1], dtype=dtype)
    assert metric(logits.reshape(shape), labels) == 1.0
    assert metric(-logits.reshape(shape), labels) == 0.0


@pytest.mark.parametrize("metric", [auc, mae, r2, metrics.f1, metrics.average_precision, binary_accuracy])
def test_a_metric_that_cannot_read_predictions_says_so(metric):
    with pytest.raises(ValueError, match=r"takes one (logit|prediction) for each label: here are 3 for each"):
        metric(torch.randn(4, 3), torch.tensor([0, 1, 2, 1]))
    with pytest.raises(ValueError, match=r"predictions have shape \(4, 3, 6\) and labels \(4, 5\)"):
        metric(torch.randn(4, 3, 6), torch.ones(4, 5))


def test_metrics_that_are_undefined_are_nan():
    logits, none, equal = torch.randn(6, 1), torch.zeros(6), torch.full((6,), 2.5)
    for metric, labels in [(auc, none), (auc, none + 1), (metrics.f1, none), (metrics.average_precision, none)]:
        assert math.isnan(metric(logits, labels)), metric.name
    assert math.isnan(r2(logits, equal))
    two = torch.stack([equal, torch.arange(6.0)], 1)
    assert math.isnan(r2(torch.randn(6, 2), two))


def test_metrics_of_classes_equal_scikit_learns():
    guess, truth = torch.randn(50, 4), torch.randint(3, (50,))  # the last class is predicted, but has no label
    decided = guess.argmax(1).numpy()
    assert accuracy(guess, truth) == sk.accuracy_score(truth.numpy(), decided)
    assert metrics.macro_f1(guess, truth) == pytest.approx(sk.f1_score(truth.numpy(), decided, average="macro"))
    recalls = sk.recall_score(truth.numpy(), decided, average=None, labels=[0, 1, 2])
    assert balanced_accuracy(guess, truth) == pytest.approx(recalls.mean())
    expected = sk.log_loss(truth.numpy(), guess.double().softmax(1).numpy(), labels=range(4))
    assert metrics.log_loss(guess, truth) == pytest.approx(expected)


def test_errors_equal_scikit_learns():
    several, wanted = torch.randn(50, 3), torch.randn(50, 3)
    assert mae(several, wanted) == pytest.approx(sk.mean_absolute_error(wanted.numpy(), several.numpy()), rel=1e-6)
    assert rmse(several, wanted) == pytest.approx(sk.root_mean_squared_error(wanted.numpy(), several.numpy()), rel=1e-6)
    assert r2(several, wanted) == pytest.approx(sk.r2_score(wanted.numpy(), several.numpy()), rel=1e-6)


def test_skill_is_relative_to_a_reference():
    assert accuracy.skill(0.55, 0.1) == pytest.approx(0.5)
    assert mae.skill(0.5, 2.0) == pytest.approx(0.75)
    assert math.isnan(accuracy.skill(0.9, 1.0))
