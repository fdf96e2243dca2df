"""The three tasks of pictures of rooms, with the losses and metrics that the field reports (Liu et al., CVPR 2019)."""

from __future__ import annotations

from mtl.benchmarks.benchmark import Task
from mtl.losses import make_loss
from mtl.metrics import (
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


def dense_tasks(classes: int) -> tuple[Task, ...]:
    """Segmentation (N, H, W), depth (N, H, W) and surface normals (N, H, W, 3).

    Args:
        classes: that a pixel may have.
    """
    return (
        Task("segmentation", make_loss("cross-entropy"), (mean_iou, pixel_accuracy), classes),
        Task("depth", make_loss("mae"), (absolute_error, relative_error), geometry="depth"),
        Task(
            "normal",
            make_loss("cosine"),
            (mean_angle, median_angle, within_11, within_22, within_30),
            3,
            geometry="direction",
        ),
    )
