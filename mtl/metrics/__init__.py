"""Metrics of a task, over a whole split at once or a few examples at a time."""

from mtl.metrics.classification import (
    accuracy,
    auc,
    average_precision,
    balanced_accuracy,
    binary_accuracy,
    f1,
    log_loss,
    macro_f1,
)
from mtl.metrics.counts import of_counts, poisson_deviance
from mtl.metrics.dense import (
    absolute_error,
    mean_angle,
    mean_iou,
    median_angle,
    pixel_accuracy,
    relative_error,
    within_11,
    within_22,
    within_30,
)
from mtl.metrics.foreign import torchmetric
from mtl.metrics.protocol import Accumulator, Metric, Parts
from mtl.metrics.regression import in_unit, mae, r2, rmse

__all__ = [
    "Accumulator",
    "Metric",
    "Parts",
    "absolute_error",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "binary_accuracy",
    "f1",
    "in_unit",
    "log_loss",
    "macro_f1",
    "mae",
    "mean_angle",
    "mean_iou",
    "median_angle",
    "of_counts",
    "pixel_accuracy",
    "poisson_deviance",
    "r2",
    "relative_error",
    "rmse",
    "torchmetric",
    "within_11",
    "within_22",
    "within_30",
]
