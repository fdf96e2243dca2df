"""Losses of embeddings: examples of one class should be near each other, those of others far.

Predictions (N, D), the embeddings of a batch; labels (N,) of type int64. What an example costs depends on the others of
its batch; a batch without a pair to compare has no loss (NaN), as one without labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.labels import known
from mtl.losses.loss import Loss, Terms
from mtl.losses.one_each import shape_of

_NEAR = 1e-12  # squared distance at which the slope of the distance would have no end


@dataclass(frozen=True)
class Embedding(Loss):
    """A mean over the examples of a batch that have others to be compared with."""

    kind: ClassVar[str] = "embeddings"

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if prediction.ndim != 2 or target.ndim != 1 or target.dtype != torch.int64:
            return (
                "takes embeddings (N, D) and one class of type int64 for each: here an example has outputs of shape "
                f"{shape_of(prediction)} and labels of shape {shape_of(target)}"
            )
        return None

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        """All examples at one place."""
        return torch.zeros(outputs or 1, device=target.device)


@dataclass(frozen=True)
class Triplet(Embedding):
    """Distance to an example of the same class, which should be smaller by `margin` than to one of another class.

    With `mining` hard, the farthest of the same class and the nearest of another (Hermans et al. 2017, eq. 5); with
    all, the mean over all pairs of them (Schroff et al. 2015). The terms are examples (N,).
    """

    name: ClassVar[str] = "triplet"
    formula: ClassVar[str] = "max(0, |p - same| - |p - other| + margin)"
    use: ClassVar[str] = (
        "embeddings for finding like examples, faces or products, with several of each class in a batch"
    )
    paper: ClassVar[str] = "Schroff et al., CVPR 2015; Hermans et al. 2017, eq. 5"
    margin: float = hyper(
        0.2, 0.0, search=(0.05, 1.0), log=True, doc="by how much another class has to be farther away"
    )
    mining: str = hyper("hard", choices=("hard", "all"), doc="which pairs count")

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        distances, same, other = _pairs(prediction, target)
        distances = (distances + _NEAR).sqrt()
        there = same.any(1) & other.any(1)
        if self.mining == "hard":
            farthest = torch.where(same, distances, 0.0).amax(1)
            # No other class in the batch: the example does not count, and any finite number does.
            nearest = torch.where(other, distances, distances.detach().amax()).amin(1)
            return Terms((farthest - nearest + self.margin).clamp(min=0), there)
        each = (distances[:, :, None] - distances[:, None, :] + self.margin).clamp(min=0)
        counts = same[:, :, None] & other[:, None, :]
        return Terms(torch.where(counts, each, 0.0).sum((1, 2)) / counts.sum((1, 2)).clamp(min=1), there)


@dataclass(frozen=True)
class Contrastive(Embedding):
    """Squared distance within a class, and what is missing to `margin` squared between classes (Hadsell et al. 2006).

    The terms are examples (N,): each the mean over its pairs with all others.
    """

    name: ClassVar[str] = "contrastive"
    formula: ClassVar[str] = "d^2 / 2 of the same class, max(0, margin - d)^2 / 2 of others, with d = |p - p'|"
    use: ClassVar[str] = "embeddings of few classes, or of pairs that are alike or not"
    paper: ClassVar[str] = "Hadsell et al., CVPR 2006, eq. 4"
    margin: float = hyper(1.0, 1e-3, search=(0.2, 3.0), log=True, doc="distance at which other classes are far enough")

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        squares, same, other = _pairs(prediction, target)
        lack = (self.margin - (squares + _NEAR).sqrt()).clamp(min=0)
        each = torch.where(same, squares, 0.0) + torch.where(other, lack**2, 0.0)
        pairs = (same | other).sum(1)
        return Terms(each.sum(1) / 2 / pairs.clamp(min=1), pairs > 0)


def _pairs(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances (N, N), and which pairs are of the same class and of different ones."""
    squares = (prediction[:, None] - prediction[None]).square().sum(-1)
    both = known(target)[:, None] & known(target)[None]
    alike = target[:, None] == target[None]
    itself = torch.eye(len(target), dtype=torch.bool, device=target.device)
    return squares, both & alike & ~itself, both & ~alike
