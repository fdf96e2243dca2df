"""Losses of whole sets of labels, as segmentation is judged: how far predicted and true regions overlap."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.by_class import ClassesOrLogits, class_frequencies
from mtl.losses.labels import by_class, elementwise, known
from mtl.losses.loss import Terms
from mtl.losses.one_each import means

_OVER = "what a set is: the whole batch, or each example"


@dataclass(frozen=True)
class Overlap(ClassesOrLogits):
    """A mean over the classes of a set, of those that occur among its labels.

    Predictions (N, ..., C), labels (N, ...) of type int64; or one logit for each label, which is in [0, 1]: the only
    class is then the positive one. The set is the batch, or each example for itself; the terms are classes of the batch
    (C,), or examples (N,).
    """

    kind: ClassVar[str] = "classes"
    over: str = hyper("batch", choices=("batch", "example"), doc=_OVER)

    @abstractmethod
    def of_sets(self, logits: Tensor, truth: Tensor, there: Tensor) -> Tensor:
        """The loss of each set and class, (S, C).

        Args:
            logits: (S, M, C), of M labels in each of S sets; C is 1 where there is one logit for each label.
            truth: (S, M, C), 1 for the class that is there; 0 where the label is missing.
            there: (S, M), 1 where there is a label.
        """

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        classes = 1 if elementwise(prediction, target) else prediction.shape[-1]
        sets = 1 if self.over == "batch" else len(prediction)
        labels = target.reshape(sets, -1)
        there = known(labels)
        clean = torch.where(there, labels, 0)
        if classes == 1:
            truth = clean.to(prediction.dtype)[..., None]
        else:
            every = torch.arange(classes, device=target.device)
            truth = (clean[..., None] == every).to(prediction.dtype)
        counted = there.to(prediction.dtype)
        truth = truth * counted[..., None]
        each = self.of_sets(prediction.reshape(sets, -1, classes), truth, counted)
        labelled = there.any(1, keepdim=True)
        # A class that does not occur has no overlap to speak of; where there is one class, none may be right.
        occurs = (truth.sum(1) > 0) if classes > 1 else labelled
        if self.over == "batch":
            return Terms(each[0], (occurs & labelled)[0])
        mean = torch.where(occurs, each, 0.0).sum(1) / occurs.sum(1).clamp(min=1)
        return Terms(mean, labelled[:, 0])

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        if target.is_floating_point() or (outputs is not None and not by_class(target, outputs)):
            # Overlap with a region that is guessed everywhere is better than with none.
            rate = means(target)
            return torch.where(rate > 0, 10.0, -10.0).to(rate.dtype)
        return class_frequencies(target)


@dataclass(frozen=True)
class Tversky(Overlap):
    """One minus the Tversky index: overlap over overlap and weighed false positives and negatives.

    `false_positives` = `false_negatives` = 0.5 is Dice; 1 and 1 is the Jaccard index.
    """

    name: ClassVar[str] = "tversky"
    formula: ClassVar[str] = (
        "1 - (tp + smooth) / (tp + false_positives fp + false_negatives fn + smooth), with tp = sum q y, "
        "fp = sum q (1 - y), fn = sum (1 - q) y and q the probabilities"
    )
    use: ClassVar[str] = "small regions in large images, where misses and false alarms cost differently"
    paper: ClassVar[str] = "Salehi et al., MLMI 2017, eq. 5"
    false_positives: float = hyper(0.3, 0.0, search=(0.1, 0.9), doc="weight of false positives")
    false_negatives: float = hyper(0.7, 0.0, search=(0.1, 0.9), doc="weight of false negatives")
    smooth: float = hyper(
        1.0, 1e-6, search=(1e-3, 10.0), log=True, doc="labels added to both, so that none may be right"
    )

    def of_sets(self, logits: Tensor, truth: Tensor, there: Tensor) -> Tensor:
        found = probabilities(logits) * there[..., None]
        hits = (found * truth).sum(1)
        alarms, misses = found.sum(1) - hits, truth.sum(1) - hits
        counted = hits + self.false_positives * alarms + self.false_negatives * misses
        return 1 - (hits + self.smooth) / (counted + self.smooth)


@dataclass(frozen=True)
class Dice(Overlap):
    """One minus the Dice coefficient, twice the overlap over the sum of both sizes."""

    name: ClassVar[str] = "dice"
    formula: ClassVar[str] = "1 - (2 sum q y + smooth) / (sum q + sum y + smooth), with q the probabilities"
    use: ClassVar[str] = "segmentation with small regions; often together with cross-entropy"
    paper: ClassVar[str] = "Milletari et al., 3DV 2016; Sudre et al., DLMIA 2017"
    smooth: float = hyper(
        1.0, 1e-6, search=(1e-3, 10.0), log=True, doc="labels added to both, so that none may be right"
    )

    def of_sets(self, logits: Tensor, truth: Tensor, there: Tensor) -> Tensor:
        found = probabilities(logits) * there[..., None]
        return 1 - (2 * (found * truth).sum(1) + self.smooth) / (found.sum(1) + truth.sum(1) + self.smooth)


@dataclass(frozen=True)
class Lovasz(Overlap):
    """The Lovász extension of one minus the Jaccard index: of the softmax of classes, or the hinge of one logit."""

    name: ClassVar[str] = "lovasz"
    formula: ClassVar[str] = "sum over errors m sorted from large to small of m_i (J_i - J_(i-1)), J = 1 - Jaccard"
    use: ClassVar[str] = "segmentation judged by intersection over union; best after some training by cross-entropy"
    paper: ClassVar[str] = "Berman et al., CVPR 2018, eq. 9, 11 and 12"

    def of_sets(self, logits: Tensor, truth: Tensor, there: Tensor) -> Tensor:
        one_logit = logits.shape[-1] == 1
        errors = 1 - logits * (2 * truth - 1) if one_logit else (truth - probabilities(logits)).abs()
        present = there[..., None].expand_as(errors)
        order = torch.where(present > 0, errors.detach(), -torch.inf).argsort(1, descending=True)
        errors, truth, present = (each.gather(1, order) for each in (errors, truth, present))
        # Jaccard of the first i in order; labels that are missing come last and change nothing.
        left = truth.sum(1, keepdim=True) - truth.cumsum(1)
        union = truth.sum(1, keepdim=True) + (present - truth).cumsum(1)
        jaccard = 1 - left / union.clamp(min=1e-6)
        steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], 1) * present
        return ((errors.relu() if one_logit else errors) * steps).sum(1)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if misfit := super().complaint(prediction, target):
            return misfit
        between = target[known(target) & (target != 0) & (target != 1)] if target.is_floating_point() else target[:0]
        return f"takes labels 0 or 1: here is {between[0].item():g}" if len(between) else None


def probabilities(logits: Tensor) -> Tensor:
    """Of each class on the last axis; of yes, where there is one logit."""
    return torch.sigmoid(logits) if logits.shape[-1] == 1 else torch.softmax(logits, -1)
