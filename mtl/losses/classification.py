"""Losses of class logits: predictions (N, ..., C), labels (N, ...) of type int64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.by_class import (
    ByClass,
    ClassesOrLogits,
    class_frequencies,
    log_probabilities,
    not_logarithms,
    picked,
)
from mtl.losses.class_weights import weights_of
from mtl.losses.labels import by_class, elementwise, known
from mtl.losses.loss import Terms
from mtl.losses.one_each import means

_WEIGHTS = "weight of each class, joined by /; inverse and effective take them from the training labels"


@dataclass(frozen=True)
class CrossEntropy(ByClass):
    """Cross-entropy of class logits: predictions (N, ..., C), labels (N, ...) of type int64.

    With class weights the mean is divided by the sum of the weights of the labels, as in torch.
    """

    name: ClassVar[str] = "cross-entropy"
    formula: ClassVar[str] = "-log softmax(p)_y"
    use: ClassVar[str] = "one class of several; label smoothing against overconfidence, class weights for rare ones"
    paper: ClassVar[str] = "Bridle 1990; label smoothing: Szegedy et al., CVPR 2016"
    label_smoothing: float = hyper(0.0, 0.0, 1.0, search=(0.0, 0.3), doc="share of the target spread over all classes")
    class_weights: tuple[float, ...] | str = hyper(
        "none", 0.0, tasks="class ratios", words=("none", "inverse", "effective"), doc=_WEIGHTS
    )

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        logs, true = log_probabilities(prediction, target)
        weights = weights_of(self.class_weights, target, prediction)
        if weights is None:
            smooth = logs.mean(-1)
        else:
            true = weights * true
            # The share of each class in the smoothed target has the weight of that class.
            smooth = (logs * torch.as_tensor(self.class_weights, dtype=logs.dtype, device=logs.device)).mean(-1)
        return Terms(-(1 - self.label_smoothing) * true - self.label_smoothing * smooth, known(target), weights)


@dataclass(frozen=True)
class NLL(ByClass):
    """Negative log-likelihood of classes, of predictions that are logarithms of probabilities already."""

    name: ClassVar[str] = "nll"
    kind: ClassVar[str] = "log probabilities"
    formula: ClassVar[str] = "-p_y"
    use: ClassVar[str] = "one class of several, where the model ends with a log-softmax of its own"
    paper: ClassVar[str] = "Fisher 1922"
    class_weights: tuple[float, ...] | str = hyper(
        "none", 0.0, tasks="class ratios", words=("none", "inverse", "effective"), doc=_WEIGHTS
    )

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return super().complaint(prediction, target) or not_logarithms(prediction)

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        weights = weights_of(self.class_weights, target, prediction)
        each = -picked(prediction, target)
        return Terms(each if weights is None else weights * each, known(target), weights)


@dataclass(frozen=True)
class Hinge(ClassesOrLogits):
    """Hinge loss of a margin: of class logits the mean over the other classes, as in torch; or of one logit a label.

    Predictions (N, ..., C), labels (N, ...) of type int64; or one logit for each label, which is in [0, 1]. Zero once
    every label is right by the margin.
    """

    name: ClassVar[str] = "hinge"
    kind: ClassVar[str] = "classes"
    formula: ClassVar[str] = "mean over c != y of max(0, margin - p_y + p_c); one logit: max(0, margin - p) for y = 1"
    use: ClassVar[str] = "classes of which the best guess counts, not its probability; clear examples stop counting"
    paper: ClassVar[str] = "Crammer & Singer, JMLR 2001"
    margin: float = hyper(1.0, 1e-3, search=(0.2, 3.0), log=True, doc="by how much the true class has to lead")

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        if elementwise(prediction, target):
            target = target.reshape(prediction.shape)
            there = known(target)
            rate = torch.where(there, target, 0).to(prediction.dtype)
            above, below = (self.margin - prediction).clamp(min=0), (self.margin + prediction).clamp(min=0)
            return Terms(rate * above + (1 - rate) * below, there)
        lack = (self.margin - picked(prediction, target)[..., None] + prediction).clamp(min=0)
        # The true class itself lacks the whole margin.
        return Terms((lack.sum(-1) - self.margin) / prediction.shape[-1], known(target))

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        if target.is_floating_point() or (outputs is not None and not by_class(target, outputs)):
            rate = means(target)
            return torch.where(rate > 0.5, 1.0, -1.0).to(rate.dtype) * float(self.margin)
        shares = class_frequencies(target).exp()
        order, classes = shares.argsort(descending=True), outputs or len(shares)
        # With the k most frequent classes at the margin and the rest at zero, one inside is level with k - 1 others;
        # one outside lacks twice the margin to k, and the margin to the others outside.
        k = torch.arange(len(shares) + 1, device=shares.device)
        inside = torch.cat([shares.new_zeros(1), shares[order].cumsum(0)])
        cost = inside * (k - 1) + (1 - inside) * (k + classes - 1)
        best = torch.zeros_like(shares)
        best[order[: int(cost.argmin())]] = float(self.margin)
        return best
