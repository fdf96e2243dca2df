"""Losses of numbers, functions of the error alone: prediction minus label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.one_each import Regression, filled, floats


@dataclass(frozen=True)
class MSE(Regression):
    """Mean squared error."""

    name: ClassVar[str] = "mse"
    formula: ClassVar[str] = "(p - y)^2"
    use: ClassVar[str] = "numbers with errors of about one size; the prediction is the mean, which outliers pull"
    paper: ClassVar[str] = "Gauss 1809"

    def of_error(self, error: Tensor) -> Tensor:
        return error**2


@dataclass(frozen=True)
class MAE(Regression):
    """Mean absolute error, by its other name `l1`."""

    name: ClassVar[str] = "mae"
    formula: ClassVar[str] = "|p - y|"
    use: ClassVar[str] = "numbers with outliers; the prediction is the median, and the slope never fades near it"
    paper: ClassVar[str] = "Laplace 1774"

    def of_error(self, error: Tensor) -> Tensor:
        return error.abs()

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return filled(floats(target).nanmedian(0).values.reshape(-1), target)


@dataclass(frozen=True)
class Huber(Regression):
    """Squared error up to `delta`, absolute beyond (Huber 1964)."""

    name: ClassVar[str] = "huber"
    formula: ClassVar[str] = "e^2 / 2 where e = |p - y| is at most delta, else delta (e - delta / 2)"
    use: ClassVar[str] = "numbers with outliers, of which small errors should still be made smaller"
    paper: ClassVar[str] = "Huber, Annals of Mathematical Statistics 1964"
    delta: float = hyper(1.0, 1e-6, search=(0.1, 3.0), log=True, doc="error at which the loss turns linear")

    def of_error(self, error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size <= self.delta, error**2 / 2, self.delta * (size - self.delta / 2))

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return self.balanced(target)


@dataclass(frozen=True)
class SmoothL1(Regression):
    """Huber's loss divided by its `beta`: the slope beyond `beta` is 1 whatever `beta` is (Girshick 2015)."""

    name: ClassVar[str] = "smooth-l1"
    formula: ClassVar[str] = "e^2 / (2 beta) where e = |p - y| is below beta, else e - beta / 2"
    use: ClassVar[str] = "as huber, where changing beta should not change the scale of the loss (boxes, keypoints)"
    paper: ClassVar[str] = "Girshick, ICCV 2015, eq. 3"
    beta: float = hyper(1.0, 1e-6, search=(0.05, 3.0), log=True, doc="error at which the loss turns linear")

    def of_error(self, error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size < self.beta, error**2 / (2 * self.beta), size - self.beta / 2)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return self.balanced(target)


@dataclass(frozen=True)
class LogCosh(Regression):
    """Logarithm of the hyperbolic cosine of the error: half its square near zero, its size far away, smooth between."""

    name: ClassVar[str] = "log-cosh"
    formula: ClassVar[str] = "s^2 log(cosh((p - y) / s))"
    use: ClassVar[str] = "as huber, with a slope and a curvature that have no kink"
    paper: ClassVar[str] = "Green, IEEE Transactions on Medical Imaging 1990"
    width: float = hyper(1.0, 1e-3, search=(0.1, 3.0), log=True, doc="s, the error about which the loss turns linear")

    def of_error(self, error: Tensor) -> Tensor:
        size = error.abs() / self.width
        # cosh overflows at 90; this is its logarithm.
        return self.width**2 * (size + F.softplus(-2 * size) - math.log(2))

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return self.balanced(target)


@dataclass(frozen=True)
class Quantile(Regression):
    """Pinball loss of the `q` quantile (Koenker & Bassett 1978)."""

    name: ClassVar[str] = "quantile"
    formula: ClassVar[str] = "max(q (y - p), (1 - q) (p - y))"
    use: ClassVar[str] = "numbers of which a high or low quantile is wanted; too low and too high cost differently"
    paper: ClassVar[str] = "Koenker & Bassett, Econometrica 1978"
    q: float = hyper(0.5, 0.0, 1.0, search=(0.1, 0.9), doc="quantile that is predicted")

    def of_error(self, error: Tensor) -> Tensor:
        return torch.maximum(-self.q * error, (1 - self.q) * error)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        return filled(floats(target).nanquantile(float(self.q), 0).reshape(-1), target)
