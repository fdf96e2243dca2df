"""Any metric of torchmetrics serves as one of ours."""

import math
import sys

import pytest
import torch

from mtl import metrics
from mtl.benchmarks import Task, load_checked
from mtl.benchmarks.digest import of_tasks
from mtl.losses import IGNORE
from mtl.metrics import torchmetric
from mtl.train import Settings, check_model, train
from tests.benchmarks.nested import Rooms

torchmetrics = pytest.importorskip("torchmetrics")
classification = pytest.importorskip("torchmetrics.classification")


def test_they_get_the_labels_that_are_there():
    logits, labels = torch.randn(30, 4, 5), torch.randint(4, (30, 5))
    labels[0, :3] = IGNORE
    iou = torchmetric(classification.MulticlassJaccardIndex(4))
    assert iou(logits, labels) == pytest.approx(metrics.mean_iou(logits, labels), abs=1e-6)
    yes, truth = torch.randn(40), torch.randint(2, (40,)).float()
    assert torchmetric("BinaryAUROC")(yes, truth) == pytest.approx(metrics.auc(yes, truth), abs=1e-6)
    truth[5] = torch.nan
    error = torchmetric("MeanAbsoluteError", name="error")
    assert error(yes[:, None], truth) == pytest.approx(metrics.mae(yes[:, None], truth), abs=1e-6)
    assert (iou.name, iou.higher_is_better, iou.perfect) == ("multiclass_jaccard_index", True, 1.0)
    assert (error.name, error.higher_is_better, error.perfect) == ("error", False, 0.0)
    assert math.isnan(error(yes, torch.full((40,), torch.nan)))


def test_a_run_is_measured_by_them():
    benchmark, depth = Rooms(), torchmetric("MeanAbsoluteError")
    kind = torchmetric("JaccardIndex", task="multiclass", num_classes=3)
    first, second, third = Rooms.tasks
    benchmark.tasks = (
        Task("kind", first.loss, (*first.metrics, kind), 3, ignore=255),
        Task("depth", second.loss, (depth, metrics.mae), ignore=0),
        third,
    )
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe)
    check_model(benchmark, splits, settings)
    found = train(benchmark, splits, "equal", settings).metrics
    assert found["depth"]["mean_absolute_error"] == pytest.approx(found["depth"]["mae"], abs=1e-5)
    assert 0 < found["kind"]["multiclass_jaccard_index"] < 1
    assert of_tasks(benchmark.tasks) == of_tasks(benchmark.tasks)


def test_what_cannot_serve_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="metric 'Jacard': torchmetrics has no class of that name"):
        torchmetric("Jacard")
    with pytest.raises(ValueError, match=r"is a float, not a torchmetrics\.Metric"):
        torchmetric(0.5)
    with pytest.raises(ValueError, match="does not say which way is better: give higher_is_better"):
        torchmetric(torchmetrics.MeanMetric())
    several = torchmetric(classification.MulticlassAccuracy(3, average=None))
    with pytest.raises(ValueError, match=r"gives a tensor of shape \(3,\); one number is wanted"):
        several(torch.randn(5, 3), torch.arange(5) % 3)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(ValueError, match="torchmetrics is not installed: pip install torchmetrics"):
        torchmetric("Accuracy")
