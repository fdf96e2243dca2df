"""Metrics of pictures: segmentation, depth and surface normals, as the field reports them (Liu et al., CVPR 2019)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mtl.metrics.classification import accuracy, confusion, mean_of, ratio, same_shape
from mtl.metrics.protocol import Array, Metric, Parts
from mtl.metrics.regression import mae

_BINS = 18000  # of the angles from 0 to 180 degrees, whose median is found without holding them


def _mean_iou(counted: Array) -> float:
    right, either = counted.diagonal(), counted.sum(0) + counted.sum(1) - counted.diagonal()
    return float((right[either > 0] / either[either > 0]).mean())


def _relative(guess: Array, truth: Array) -> Array:
    same_shape("relative_error", guess, truth)
    if not truth.all():
        raise ValueError("relative_error takes labels other than 0: a task says by ignore=0 that 0 is no label")
    return mean_of(np.abs(guess - truth) / np.abs(truth))


def angles(guess: Array, truth: Array) -> Array:
    """Angles in degrees between vectors (n, 3) of any length; 90 to a vector without one."""
    across = np.linalg.norm(np.cross(guess, truth), axis=-1)
    along = (guess * truth).sum(-1)
    found: Array = np.where((across == 0) & (along == 0), 90.0, np.degrees(np.arctan2(across, along)))
    return found


def _angles(guess: Array, truth: Array) -> Array:
    return mean_of(angles(guess, truth))


@dataclass(frozen=True)
class _Within:
    """How many angles are below a limit."""

    limit: float

    def __call__(self, guess: Array, truth: Array) -> Array:
        return mean_of(angles(guess, truth) < self.limit)


def _median(guess: Array, truth: Array) -> float:
    return float(np.median(angles(guess, truth)))


def _histogram(guess: Array, truth: Array) -> Array:
    return np.histogram(angles(guess, truth), _BINS, (0, 180))[0].astype(np.float64)


def _median_of(counted: Array) -> float:
    """Within the bin where half of the angles lie below, in proportion."""
    below = counted.cumsum()
    number = int(np.searchsorted(below, below[-1] / 2))
    before = below[number] - counted[number]
    return float((number + (below[-1] / 2 - before) / counted[number]) * 180 / _BINS)


def _of(name: str, parts: Parts, higher_is_better: bool, perfect: float) -> Metric:
    return Metric(name, parts, higher_is_better, perfect, parts=parts)


def _of_vectors(name: str, parts: Parts, higher_is_better: bool, perfect: float) -> Metric:
    return Metric(name, parts, higher_is_better, perfect, parts=parts, vectors=True)


#: Intersection over union of each class, and the mean over classes that occur among labels or predictions.
mean_iou = _of("miou", Parts(confusion, _mean_iou), True, 1.0)
#: Share of pixels whose class is right.
pixel_accuracy = dataclasses.replace(accuracy, name="pixel_accuracy")
#: Mean absolute error of depths.
absolute_error = dataclasses.replace(mae, name="absolute_error")
#: Mean of |prediction - label| / |label|.
relative_error = _of("relative_error", Parts(_relative, ratio), False, 0.0)
#: Mean angle between predicted and true normals, in degrees; a normal of length 0 is no label.
mean_angle = _of_vectors("mean_angle", Parts(_angles, ratio), False, 0.0)
#: Their median; of more predictions than are held at once, to a hundredth of a degree.
median_angle = Metric("median_angle", _median, False, 0.0, parts=Parts(_histogram, _median_of), vectors=True)
#: Shares of normals whose angle is less than so many degrees.
within_11 = _of_vectors("within_11.25", Parts(_Within(11.25), ratio), True, 1.0)
within_22 = _of_vectors("within_22.5", Parts(_Within(22.5), ratio), True, 1.0)
within_30 = _of_vectors("within_30", Parts(_Within(30.0), ratio), True, 1.0)
