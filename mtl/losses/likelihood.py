"""Losses of numbers and counts that are negative log-likelihoods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.labels import known
from mtl.losses.loss import Loss, Terms
from mtl.losses.one_each import Counts, floats, shape_of

#: Logarithm of the mean up to which predictions are what they say: e^17 is above 2^24, beyond which single precision
#: does not tell whole numbers apart.
LIMIT = 17.0
#: What its hyperparameter says.
LIMIT_DOC = "log of the mean beyond which the mean grows in a straight line, so that nothing overflows"


def bounded(logarithm: Tensor, limit: float | Tensor) -> Tensor:
    """The logarithm of a number that is e^x up to `limit` and goes on from there with the slope it has."""
    above = (logarithm - limit).clamp(min=0)
    return (
        torch.minimum(logarithm, torch.as_tensor(limit, dtype=logarithm.dtype, device=logarithm.device)) + above.log1p()
    )


@dataclass(frozen=True)
class Gaussian(Loss):
    """Negative log-likelihood of a normal distribution whose mean and variance are both predicted.

    Predictions (N, ..., 2): mean and logarithm of the variance; labels (N, ...). Without the constant log(2 pi) / 2, as
    in torch. Variances below e^-limit shrink ever more slowly, so that no error overflows.
    """

    name: ClassVar[str] = "gaussian"
    kind: ClassVar[str] = "mean and variance"
    formula: ClassVar[str] = "(s + (p - y)^2 / e^s) / 2, with p and s the two outputs"
    use: ClassVar[str] = "numbers of which the uncertainty of each example is wanted too; needs two outputs for a label"
    paper: ClassVar[str] = "Nix & Weigend, ICNN 1994"
    limit: float = hyper(10.0, 1.0, 30.0, doc="minus log of the variance from which it shrinks ever more slowly")

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        there = known(target)
        mean, certainty = prediction[..., 0], bounded(-prediction[..., 1], self.limit)
        error = mean - torch.where(there, target, 0).to(mean.dtype)
        return Terms((error**2 * certainty.exp() - certainty) / 2, there)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if prediction.shape[1:] != (*target.shape[1:], 2):
            return (
                "takes two outputs for each label, a mean and a log variance, on the last axis: here an example has "
                f"outputs of shape {shape_of(prediction)} and labels of shape {shape_of(target)}"
            )
        return None

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        labels = floats(target)
        mean = torch.where(labels.nanmean(0).isnan(), labels.nanmean(), labels.nanmean(0))
        variance = ((labels - mean) ** 2).nanmean(0)
        variance = torch.where(variance.isnan(), ((labels - mean) ** 2).nanmean(), variance)
        return torch.stack([mean, variance.clamp(min=1e-4).log()], -1)


@dataclass(frozen=True)
class Poisson(Counts):
    """Negative log-likelihood of counts whose mean is e^prediction, less what it is for a mean that is the count.

    This is half the Poisson deviance: 0 where predictions are right, and never below, so that strategies which read
    ratios and logarithms of losses can weigh it. The loss of torch has the same gradient, and is lower by
    y log(y) - y, which the labels alone decide.
    """

    name: ClassVar[str] = "poisson"
    formula: ClassVar[str] = "e^p - y p + y log(y) - y"
    use: ClassVar[str] = "counts whose variance is about their mean; the output is the logarithm of the mean"
    paper: ClassVar[str] = "Nelder & Wedderburn 1972"
    limit: float = hyper(LIMIT, 1.0, 30.0, doc=LIMIT_DOC)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        log_mean = bounded(prediction, self.limit)
        # Of zero counts the logarithm does not matter.
        return log_mean.exp() - target + target * (torch.where(target > 0, target, 1.0).log() - log_mean)


@dataclass(frozen=True)
class NegativeBinomial(Counts):
    """Negative log-likelihood of counts with mean m = e^prediction and variance m + `dispersion` m^2 (NB2)."""

    name: ClassVar[str] = "negative-binomial"
    formula: ClassVar[str] = "(y + r) log(r + e^p) - y p - r log r - log C(y + r - 1, y), with r = 1 / dispersion"
    use: ClassVar[str] = "counts that vary more than their mean; the output is the logarithm of the mean"
    paper: ClassVar[str] = "Hilbe, Negative Binomial Regression 2011"
    dispersion: float = hyper(
        1.0, 1e-3, 1e3, search=(0.05, 5.0), log=True, doc="how much the variance exceeds the mean"
    )

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        dispersion = torch.as_tensor(self.dispersion, dtype=prediction.dtype, device=prediction.device)
        size, odds = 1 / dispersion, prediction + dispersion.log()
        # Of large counts these are large numbers with a small difference.
        count, power = target.double(), size.double()
        ways = torch.lgamma(count + power) - torch.lgamma(power) - torch.lgamma(count + 1)
        return size * F.softplus(odds) + target * F.softplus(-odds) - ways.to(prediction.dtype)


@dataclass(frozen=True)
class Tweedie(Counts):
    """Half the Tweedie deviance of labels with mean m = e^prediction and variance m^power, up to a constant."""

    name: ClassVar[str] = "tweedie"
    formula: ClassVar[str] = "e^((2 - power) p) / (2 - power) - y e^((1 - power) p) / (1 - power)"
    use: ClassVar[str] = "amounts that are often exactly zero and else positive (claims, rain, sales)"
    paper: ClassVar[str] = "Jorgensen, Journal of the Royal Statistical Society B 1987"
    power: float = hyper(1.5, 1.01, 1.99, search=(1.1, 1.9), doc="near 1 counts (Poisson), near 2 amounts (gamma)")
    limit: float = hyper(LIMIT, 1.0, 30.0, doc="size of the log of the mean beyond which it grows ever more slowly")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        log_mean = -bounded(-bounded(prediction, self.limit), self.limit)
        two, one = 2 - self.power, 1 - self.power
        return torch.exp(two * log_mean) / two - target * torch.exp(one * log_mean) / one
