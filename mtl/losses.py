"""Task losses, with their own hyperparameters, and the constant prediction that is best under each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.hyperparameters import hyper, read_unit, validate, write_unit

IGNORE = -100  # class index of a missing label; a missing number is NaN


@dataclass(frozen=True)
class Loss(ABC):
    """A loss of one task, averaged over the labels that are there; NaN when a batch has none.

    Missing labels are NaN in float targets and `IGNORE` (-100) in integer ones.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        validate(self, self.name)

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean loss, a scalar; `prediction` is (N, outputs), `target` (N,) or (N, outputs)."""

    def constant(self, target: Tensor) -> Tensor:
        """The input-free prediction (outputs,) with the lowest loss on `target`."""
        return target.nanmean(0).reshape(-1)

    def __str__(self) -> str:
        return write_unit(self, self.name)


@dataclass(frozen=True)
class _Elementwise(Loss):
    """A regression loss that is a mean over elements."""

    @abstractmethod
    def elements(self, error: Tensor) -> Tensor:
        """The loss of each element, from prediction minus target."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        target = target.reshape(prediction.shape)
        known = ~target.isnan()
        error = torch.where(known, prediction - target, 0.0)
        return torch.where(known, self.elements(error), 0.0).sum() / known.sum()


@dataclass(frozen=True)
class MSE(_Elementwise):
    """Mean squared error."""

    name: ClassVar[str] = "mse"

    def elements(self, error: Tensor) -> Tensor:
        return error**2


@dataclass(frozen=True)
class MAE(_Elementwise):
    """Mean absolute error."""

    name: ClassVar[str] = "mae"

    def elements(self, error: Tensor) -> Tensor:
        return error.abs()

    def constant(self, target: Tensor) -> Tensor:
        return target.nanmedian(0).values.reshape(-1)


@dataclass(frozen=True)
class Huber(_Elementwise):
    """Squared error up to `delta`, absolute beyond (Huber 1964)."""

    name: ClassVar[str] = "huber"
    delta: float = hyper(1.0, 1e-6, search=(0.1, 3.0), log=True, doc="error at which the loss turns linear")

    def elements(self, error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size <= self.delta, error**2 / 2, self.delta * (size - self.delta / 2))


@dataclass(frozen=True)
class Quantile(_Elementwise):
    """Pinball loss of the `q` quantile (Koenker & Bassett 1978)."""

    name: ClassVar[str] = "quantile"
    q: float = hyper(0.5, 0.0, 1.0, search=(0.1, 0.9), doc="quantile that is predicted")

    def elements(self, error: Tensor) -> Tensor:
        return torch.maximum(-self.q * error, (1 - self.q) * error)

    def constant(self, target: Tensor) -> Tensor:
        return target.nanquantile(float(self.q), 0).reshape(-1)


@dataclass(frozen=True)
class _Classification(Loss):
    def constant(self, target: Tensor) -> Tensor:
        known = target[target != IGNORE]
        counts = torch.bincount(known).double()
        return (counts / counts.sum()).clamp(min=1e-12).log().to(torch.get_default_dtype())


@dataclass(frozen=True)
class CrossEntropy(_Classification):
    """Cross-entropy of class logits."""

    name: ClassVar[str] = "cross-entropy"
    label_smoothing: float = hyper(0.0, 0.0, 1.0, search=(0.0, 0.3), doc="share of the target spread over all classes")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        logs = F.log_softmax(prediction, -1)
        known = target != IGNORE
        picked = logs.gather(-1, target.clamp(min=0)[..., None])[..., 0]
        each = (1 - self.label_smoothing) * picked + self.label_smoothing * logs.mean(-1)
        return -torch.where(known, each, 0.0).sum() / known.sum()


@dataclass(frozen=True)
class Focal(_Classification):
    """Cross-entropy weighed by (1 - p)^gamma, p the probability of the true class (Lin et al. 2017, eq. 4)."""

    name: ClassVar[str] = "focal"
    gamma: float = hyper(2.0, 0.0, search=(0.5, 5.0), doc="how strongly easy examples are discounted")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        logs = F.log_softmax(prediction, -1)
        known = target != IGNORE
        picked = logs.gather(-1, target.clamp(min=0)[..., None])[..., 0]
        each = (1 - picked.exp()).clamp(min=0) ** self.gamma * picked
        return -torch.where(known, each, 0.0).sum() / known.sum()


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Binary cross-entropy of logits, targets in [0, 1]."""

    name: ClassVar[str] = "binary-cross-entropy"
    positive_weight: float = hyper(1.0, 0.0, search=(0.2, 5.0), log=True, doc="weight of the positive class")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        target = target.reshape(prediction.shape)
        known = ~target.isnan()
        clean = torch.where(known, target, 0.0).to(prediction.dtype)
        each = -(self.positive_weight * clean * F.logsigmoid(prediction) + (1 - clean) * F.logsigmoid(-prediction))
        return torch.where(known, each, 0.0).sum() / known.sum()

    def constant(self, target: Tensor) -> Tensor:
        rate = super().constant(target).clamp(1e-6, 1 - 1e-6)
        return torch.log(self.positive_weight * rate / (1 - rate))


LOSSES: Mapping[str, type[Loss]] = MappingProxyType(
    {cls.name: cls for cls in (BinaryCrossEntropy, CrossEntropy, Focal, Huber, MAE, MSE, Quantile)}
)


def make_loss(spec: str) -> Loss:
    """The loss that a spec such as `huber:delta=0.5` names; a `ValueError` says what is wrong with it."""
    cls, values = read_unit(spec, LOSSES, "loss")
    return cls(**values)
