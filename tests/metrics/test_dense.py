"""Metrics of pictures against their definitions, written out pixel by pixel."""

import math

import pytest
import torch
import torch.nn.functional as F

from mtl import metrics
from mtl.losses import IGNORE
from mtl.metrics import in_unit, mae, rmse


def test_mean_iou_is_that_of_sets_of_pixels():
    logits = torch.randn(7, 5, 4, 6)
    logits[:, 4] -= 100  # a class that is never predicted
    truth = torch.randint(4, (7, 4, 6))  # and never true
    truth[0, 0] = IGNORE
    guess, there = logits.argmax(1), truth != IGNORE
    each = []
    for label in range(4):
        a, b = (guess == label) & there, (truth == label) & there
        each.append(float((a & b).sum() / (a | b).sum()))
    assert metrics.mean_iou(logits, truth) == pytest.approx(sum(each) / 4)
    assert metrics.mean_iou(logits.movedim(1, -1), truth) == metrics.mean_iou(logits, truth)
    right = (guess == truth)[there].double().mean()
    assert metrics.pixel_accuracy(logits, truth) == pytest.approx(float(right))


def test_errors_of_depth():
    truth = torch.rand(5, 1, 4, 4) + 1
    guess = truth * 1.1
    truth[0, 0, 0, 0] = torch.nan
    there = ~truth.isnan()
    assert metrics.relative_error(guess, truth) == pytest.approx(0.1, abs=1e-6)
    assert metrics.absolute_error(guess, truth) == pytest.approx(float(0.1 * truth[there].double().mean()), abs=1e-6)
    with pytest.raises(ValueError, match="relative_error takes labels other than 0: a task says by ignore=0"):
        metrics.relative_error(guess, torch.zeros_like(truth))


def test_angles_of_normals():
    truth = F.normalize(torch.randn(6, 3, 5, 4), dim=1)
    guess = 3 * (truth + 0.4 * torch.randn(6, 3, 5, 4))
    truth[:, :, 0, 0] = 0  # no normal there
    there = truth.norm(dim=1) > 0
    cosine = (F.normalize(guess, dim=1) * truth).sum(1)[there].double().clamp(-1, 1)
    angle = torch.rad2deg(cosine.acos())
    expected = [angle.mean(), angle.quantile(0.5), *((angle < limit).double().mean() for limit in (11.25, 22.5, 30))]
    each = [metrics.mean_angle, metrics.median_angle, metrics.within_11, metrics.within_22, metrics.within_30]
    assert [metric(guess, truth) for metric in each] == pytest.approx([float(value) for value in expected], abs=1e-3)
    assert metrics.mean_angle(guess.movedim(1, -1), truth.movedim(1, -1)) == metrics.mean_angle(guess, truth)
    assert metrics.mean_angle(truth, truth) == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="mean_angle takes vectors of three numbers"):
        metrics.mean_angle(torch.ones(2, 4, 5), torch.ones(2, 4, 5))


@pytest.mark.parametrize("metric", [mae, rmse])
def test_an_error_in_the_unit_of_the_labels(metric):
    energy = 5 + 2 * torch.randn(30, dtype=torch.float64)
    guess = energy + torch.randn(30, dtype=torch.float64)
    shown = in_unit(metric, std=2.0, mean=5.0, unit="eV")
    assert shown.name == f"{metric.name}_eV" and not shown.higher_is_better
    standard = ((guess - 5) / 2, (energy - 5) / 2)
    assert shown(*standard) == pytest.approx(metric(guess, energy))
    accumulator = shown.begin()
    accumulator.update(*standard)
    assert accumulator.compute() == pytest.approx(metric(guess, energy))
    with pytest.raises(ValueError, match=r"std=0.0 must be a positive number"):
        in_unit(metric, std=0.0)


def test_normals_without_a_label_have_no_value():
    assert math.isnan(metrics.mean_angle(torch.ones(2, 3), torch.zeros(2, 3)))
