"""Losses of labels that are yes or no, with one logit each; an example may have many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.class_weights import wrong_length
from mtl.losses.one_each import Binary, means


@dataclass(frozen=True)
class BinaryCrossEntropy(Binary):
    """Binary cross-entropy of logits, by its other name `bce`: one for each label, which is in [0, 1]."""

    name: ClassVar[str] = "binary-cross-entropy"
    formula: ClassVar[str] = "-w y log s(p) - (1 - y) log(1 - s(p)), with s the sigmoid"
    use: ClassVar[str] = "labels that are yes or no; a positive weight w where yes is rare or costs more"
    paper: ClassVar[str] = "Good 1952"
    positive_weight: float | str = hyper(
        1.0,
        0.0,
        search=(0.2, 5.0),
        log=True,
        words=("inverse",),
        doc="weight of the positive class; inverse: negative over positive training labels",
    )

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        weight = self.positive_weight
        assert not isinstance(weight, str)  # what is not decided yet is refused before
        positive = weight * target * F.logsigmoid(prediction)
        return -(positive + (1 - target) * F.logsigmoid(-prediction))

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        rate = super().constant(target, outputs).clamp(1e-6, 1 - 1e-6)
        return torch.log(float(self.positive_weight) * rate / (1 - rate))


@dataclass(frozen=True)
class MultiLabel(Binary):
    """Binary cross-entropy of several labels of one example, each with a positive weight of its own.

    Predictions (N, L), labels (N, L) in [0, 1].
    """

    name: ClassVar[str] = "multi-label"
    formula: ClassVar[str] = "-w_l y_l log s(p_l) - (1 - y_l) log(1 - s(p_l)), with s the sigmoid"
    use: ClassVar[str] = "several labels at once that are yes or no, some of them much rarer than others"
    paper: ClassVar[str] = "Boutell et al., Pattern Recognition 2004"
    positive_weights: tuple[float, ...] | str = hyper(
        "none",
        0.0,
        tasks="classes",
        words=("none", "inverse"),
        doc="weight of yes of each label, joined by /; inverse: negative over positive training labels",
    )

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        positive = target * F.logsigmoid(prediction)
        if not isinstance(self.positive_weights, str):
            given = self.positive_weights
            weights = torch.as_tensor(given, dtype=prediction.dtype, device=prediction.device)
            positive = positive * weights
        return -(positive + (1 - target) * F.logsigmoid(-prediction))

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if misfit := super().complaint(prediction, target):
            return misfit
        return wrong_length(self.positive_weights, prediction.shape[-1], "positive_weights")

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        rate = super().constant(target, outputs).clamp(1e-6, 1 - 1e-6)
        weights = 1.0 if isinstance(self.positive_weights, str) else rate.new_tensor(self.positive_weights)
        return torch.log(weights * rate / (1 - rate))


@dataclass(frozen=True)
class Asymmetric(Binary):
    """Binary cross-entropy that discounts easy negatives more than easy positives, and forgets very easy ones.

    A negative whose probability is below `shift` costs nothing. Predictions (N, L) or (N, 1), labels in [0, 1].
    """

    name: ClassVar[str] = "asymmetric"
    formula: ClassVar[str] = (
        "-y (1 - q)^positive log q - (1 - y) r^negative log(1 - r), with q = s(p) and r = max(q - shift, 0)"
    )
    use: ClassVar[str] = "many labels at once, most of them no"
    paper: ClassVar[str] = "Ridnik et al., ICCV 2021, eq. 4 to 7"
    negative: float = hyper(4.0, 0.0, search=(0.0, 6.0), doc="how strongly easy negatives are discounted")
    positive: float = hyper(0.0, 0.0, search=(0.0, 2.0), doc="how strongly easy positives are discounted")
    shift: float = hyper(0.05, 0.0, 0.5, search=(0.0, 0.2), doc="probability below which a negative costs nothing")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        tiny = torch.finfo(prediction.dtype).tiny  # no slope of a power at zero would be NaN
        yes, no = F.logsigmoid(prediction), F.logsigmoid(-prediction)
        shift = torch.as_tensor(self.shift, dtype=prediction.dtype, device=prediction.device)
        # log(1 - r) = min(log(1 - q + shift), 0), from logarithms: q is 1 to rounding long before its logit ends.
        rest = torch.logaddexp(no, shift.clamp(min=tiny).log()).clamp(max=0)
        shifted = (-torch.expm1(rest)).clamp(min=tiny)
        missed = no.exp().clamp(min=tiny)
        return -(target * missed**self.positive * yes + (1 - target) * shifted**self.negative * rest)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return torch.logit(means(target).clamp(1e-6, 1 - 1e-6))
