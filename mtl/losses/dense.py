"""Losses of depth and of directions, as dense prediction has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.labels import known
from mtl.losses.loss import Loss, Terms
from mtl.losses.one_each import Elementwise, means, shape_of

_SHORT = 1e-4  # length below which a direction says little


@dataclass(frozen=True)
class ScaleInvariant(Elementwise):
    """Scale-invariant error of log depth (Eigen et al. 2014, eq. 4): a common factor of an example costs less.

    Predictions (N, ...) or (N, 1, ...), the logarithm of depth; labels (N, ...), depths above zero. The terms are
    examples (N,).
    """

    name: ClassVar[str] = "scale-invariant"
    kind: ClassVar[str] = "depth"
    formula: ClassVar[str] = "mean(d^2) - share mean(d)^2 over an example, with d = p - log y"
    use: ClassVar[str] = "depth maps whose absolute scale cannot be told from one picture"
    paper: ClassVar[str] = "Eigen et al., NeurIPS 2014, eq. 4"
    share: float = hyper(0.5, 0.0, 1.0, search=(0.0, 1.0), doc="share of a common factor that costs nothing")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return prediction - target.log()

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        target = target.reshape(prediction.shape).flatten(1) if prediction.ndim > 1 else target.reshape(-1, 1)
        there = known(target)
        depth = torch.where(there, target, 1).to(prediction.dtype)
        off = torch.where(there, self.elements(prediction.reshape(depth.shape), depth), 0.0)
        counted = there.sum(1).clamp(min=1)
        return Terms((off**2).sum(1) / counted - self.share * (off.sum(1) / counted) ** 2, there.any(1))

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if misfit := super().complaint(prediction, target):
            return misfit
        wrong = target[known(target) & (target <= 0)]
        return (
            f"takes depths above 0: here is {wrong[0].item():g}; one that is not known is NaN" if len(wrong) else None
        )

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        floats = target.to(torch.get_default_dtype())
        return means(torch.where(known(target), floats, torch.nan).log())


@dataclass(frozen=True)
class Cosine(Loss):
    """One minus the cosine between predicted and true direction, such as of surface normals.

    Predictions (N, ..., D) and labels (N, ..., D); the lengths of both do not matter. A direction is missing if any of
    its numbers is. The terms are directions (N, ...).
    """

    name: ClassVar[str] = "cosine"
    kind: ClassVar[str] = "directions"
    formula: ClassVar[str] = "1 - p . y / (|p| |y|)"
    use: ClassVar[str] = "directions: surface normals, orientations, embeddings of a teacher"
    paper: ClassVar[str] = "Wang et al., CVPR 2015"

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        there = known(target).all(-1)
        label = torch.where(there[..., None], target, 1.0).to(prediction.dtype)
        return Terms(1 - (_direction(prediction) * _direction(label)).sum(-1), there)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if prediction.shape[1:] != target.shape[1:] or target.ndim < 2 or target.shape[-1] < 2:
            return (
                "takes directions on the last axis of both: here an example has outputs of shape "
                f"{shape_of(prediction)} and labels of shape {shape_of(target)}"
            )
        if not target.is_floating_point():
            return "takes directions, which are floating-point numbers: here are whole ones"
        zero = (target == 0).all(-1)
        return (
            "takes directions with a length: here is one of zero; one that is not known is NaN" if zero.any() else None
        )

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return means(_direction(target)).reshape(target.shape[1:])


def _direction(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().sum(-1, keepdim=True) + _SHORT**2).sqrt()
