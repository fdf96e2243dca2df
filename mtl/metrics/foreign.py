"""Metrics of the library torchmetrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtl.losses.labels import classes_last, elementwise, known
from mtl.messages import kind_of
from mtl.metrics.protocol import NAN, Accumulator, Metric


@dataclass(frozen=True)
class TorchMetric(Metric):
    """A metric of torchmetrics, whose `update` and `compute` take a split a few examples at a time.

    It gets the labels that are there and their predictions: (n,) each with one prediction for each label, and (n, C)
    and (n,) with one for each class.
    """

    torchmetric: Any = None

    def __call__(self, prediction: Tensor, target: Tensor) -> float:
        """The metric over the labels that are there."""
        accumulator = self.begin()
        accumulator.update(prediction, target)
        return accumulator.compute()

    def begin(self) -> Accumulator:
        """A copy of the metric that has seen nothing."""
        return _Copy(self.name, self.torchmetric.clone())


class _Copy:
    def __init__(self, name: str, metric: Any) -> None:
        self._name, self._metric, self._labels, self._broken = name, metric, 0, False
        self._metric.reset()
        self._whole = ".classification." in type(metric).__module__  # takes labels that are whole numbers

    def update(self, prediction: Tensor, target: Tensor) -> None:
        prediction, there = classes_last(prediction.detach(), target), known(target)
        if elementwise(prediction, target):
            prediction = prediction.reshape(target.shape)
        guess, truth = prediction[there], target[there]
        self._broken = self._broken or not bool(guess.isfinite().all())
        self._labels += len(truth)
        if len(truth) and not self._broken:
            self._metric.to(guess.device)
            self._metric.update(guess, truth.to(torch.int64) if self._whole else truth)

    def compute(self) -> float:
        if self._broken or not self._labels:
            return NAN
        found = self._metric.compute()
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise ValueError(
                f"{self._name} gives {_shape(found)}; one number is wanted, as with an average over classes"
            )
        return float(found)


def _shape(found: Any) -> str:
    return f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else kind_of(found)


def torchmetric(
    metric: Any,
    *,
    name: str | None = None,
    higher_is_better: bool | None = None,
    perfect: float | None = None,
    **arguments: Any,
) -> Metric:
    """A metric of torchmetrics as one of ours.

    Args:
        metric: a `torchmetrics.Metric`, or the name of a class of torchmetrics, made with the further arguments.
        name: as shown in results; the class's own in small letters when not given.
        higher_is_better: which way is better; as the metric says when not given.
        perfect: the value of perfect predictions; 1 where higher is better and 0 where lower is, when not given.
        arguments: of the class.

    Raises:
        ValueError: torchmetrics is not installed or has no such metric, or it does not say which way is better.
    """
    try:
        import torchmetrics
    except ModuleNotFoundError as error:
        raise ValueError(f"metric {metric!r}: torchmetrics is not installed: pip install torchmetrics") from error
    if isinstance(metric, str):
        made = getattr(torchmetrics, metric, None) or getattr(torchmetrics.classification, metric, None)
        if made is None:
            raise ValueError(f"metric {metric!r}: torchmetrics has no class of that name")
        metric = made(**arguments)
    elif arguments:
        raise ValueError(f"{', '.join(arguments)}: of a metric that is made already, arguments are not taken")
    if not isinstance(metric, torchmetrics.Metric):
        raise ValueError(f"metric {metric!r} is {kind_of(metric)}, not a torchmetrics.Metric")
    higher = metric.higher_is_better if higher_is_better is None else higher_is_better
    if higher is None:
        raise ValueError(f"metric {type(metric).__name__} does not say which way is better: give higher_is_better")
    shown = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(metric).__name__).lower()
    best = (1.0 if higher else 0.0) if perfect is None else perfect
    return TorchMetric(shown, metric, bool(higher), best, torchmetric=metric)
