"""What a picture of a loss shows: its value and its slope as one prediction moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from mtl.losses.loss import Loss
from mtl.losses.registry import FAMILIES

POINTS = 241


@dataclass(frozen=True)
class LossView:
    """What a picture shows of losses of one kind.

    Attributes:
        axis: label of the horizontal axis.
        low: its left end.
        high: its right end.
        pair: the prediction and the labels of one point of it.
    """

    axis: str
    low: float
    high: float
    pair: Callable[[Tensor], tuple[Tensor, Tensor]]


def _one(label: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda x: (x.reshape(1, 1), torch.tensor([label], dtype=x.dtype))


def _true_logit(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([x, 0 * x, 0 * x]).reshape(1, 3), torch.tensor([0])


def _region(x: Tensor) -> tuple[Tensor, Tensor]:
    labels = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=x.dtype)
    return torch.where(labels == 1, x, -2.0).reshape(-1, 1), labels


def _angle(x: Tensor) -> tuple[Tensor, Tensor]:
    radians = torch.deg2rad(x)
    return torch.stack([radians.cos(), radians.sin()]).reshape(1, 2), torch.tensor([[1.0, 0.0]], dtype=x.dtype)


def _depth(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([x, 0 * x, 0 * x, 0 * x]).reshape(1, 4), torch.ones(1, 4, dtype=x.dtype)


def _pictures(x: Tensor) -> tuple[Tensor, Tensor]:
    step = torch.cat([torch.zeros(14, 7, dtype=x.dtype), torch.ones(14, 7, dtype=x.dtype)], 1)[None]
    return x * step, step


def _mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([x, 0 * x]).reshape(1, 2), torch.zeros(1, dtype=x.dtype)


def _embeddings(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([0 * x, x, 0 * x + 1.3]).reshape(3, 1), torch.tensor([0, 0, 1])


def _teacher(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([x, 0 * x, 0 * x]).reshape(1, 3), torch.tensor([[1.0, 0.0, 0.0]], dtype=x.dtype)


#: By the kind of predictions and labels.
VIEWS: Mapping[str, LossView] = MappingProxyType(
    {
        "numbers": LossView("prediction, for a label of 0", -4, 4, _one(0.0)),
        "mean and variance": LossView(
            "predicted mean, for a label of 0 and a variance of 1", -4, 4, _mean_and_variance
        ),
        "counts": LossView("log of the predicted mean, for a count of 3", -2, 3, _one(3.0)),
        "classes": LossView("logit of the true class, the two others 0", -5, 5, _true_logit),
        "log probabilities": LossView("prediction for the true class", -5, 5, _true_logit),
        "yes or no": LossView("logit, for a label that is no", -5, 5, _one(0.0)),
        "regions": LossView("logits of a region of 3 places; of the 7 others -2", -5, 5, _region),
        "depth": LossView("log error of one of 4 places, the others right", -3, 3, _depth),
        "directions": LossView("angle to the true direction, in degrees", -180, 180, _angle),
        "pictures": LossView("height of a step that is 1 in the label", -1, 3, _pictures),
        "embeddings": LossView("an example at 0, one of its class at x, one of another at 1.3", -2, 2, _embeddings),
        "teacher": LossView("logit of a class for which the teacher has 1; others 0", -5, 5, _teacher),
    }
)


def view_of(loss: type[Loss] | Loss) -> LossView:
    """What the picture of a loss shows.

    Raises:
        KeyError: the loss does not say of what kind its predictions and labels are.
    """
    cls = loss if isinstance(loss, type) else type(loss)
    return VIEWS["regions" if cls in FAMILIES["regions"] else cls.kind]


def curve(loss: Loss, view: LossView) -> tuple[list[float], list[float], list[float]]:
    """The axis, the values of the loss and their slopes."""
    points = torch.linspace(view.low, view.high, POINTS, dtype=torch.float64)
    values, slopes = [], []
    for point in points:
        x = point.clone().requires_grad_()
        value = loss(*view.pair(x))
        (slope,) = torch.autograd.grad(value, x)
        values.append(float(value.detach()))
        slopes.append(float(slope))
    return points.tolist(), values, slopes
