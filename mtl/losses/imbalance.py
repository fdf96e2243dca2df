"""Losses for classes of unlike size: easy or frequent examples count less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.by_class import ByClass, OfTruth, log_probabilities
from mtl.losses.class_weights import wrong_length
from mtl.losses.labels import known
from mtl.losses.loss import Terms


@dataclass(frozen=True)
class Focal(OfTruth):
    """Cross-entropy weighed by (1 - q)^gamma, q the probability of the true class (Lin et al. 2017, eq. 4 and 5).

    Predictions (N, ..., C), labels (N, ...) of type int64; or one logit for each label, which is in [0, 1]. `alpha`
    weighs positive labels and 1 - `alpha` negative ones, where there is one logit.
    """

    name: ClassVar[str] = "focal"
    formula: ClassVar[str] = "-(1 - q)^gamma log q, with q the probability of the true class"
    use: ClassVar[str] = "very many easy examples, such as background, beside few hard ones"
    paper: ClassVar[str] = "Lin et al., ICCV 2017, eq. 4 and 5"
    gamma: float = hyper(2.0, 0.0, search=(0.5, 5.0), doc="how strongly easy examples are discounted")
    alpha: float | None = hyper(None, 0.0, 1.0, doc="share of positive labels in the weight; none: both weigh 1")

    def of_truth(self, log_probability: Tensor) -> Tensor:
        # At q = 1 a power below one has no slope, and no slope times a logarithm of zero would be NaN.
        rest = (-torch.expm1(log_probability)).clamp(min=torch.finfo(log_probability.dtype).tiny)
        return -(rest**self.gamma) * log_probability

    def of_rate(self, logit: Tensor, rate: Tensor) -> Tensor:
        if self.alpha is None:
            return super().of_rate(logit, rate)
        positive, negative = (
            super().of_rate(logit, torch.ones_like(rate)),
            super().of_rate(logit, torch.zeros_like(rate)),
        )
        return self.alpha * rate * positive + (1 - self.alpha) * (1 - rate) * negative

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if self.alpha is not None and prediction[:1].numel() != target[:1].numel():
            return "takes alpha where there is one logit for each label: here is one for each class"
        return super().complaint(prediction, target)


@dataclass(frozen=True)
class Poly(OfTruth):
    """Cross-entropy plus `epsilon` (1 - q), q the probability of the true class (Poly-1, Leng et al. 2022).

    Predictions (N, ..., C), labels (N, ...) of type int64; or one logit for each label, which is in [0, 1].
    """

    name: ClassVar[str] = "poly"
    formula: ClassVar[str] = "-log q + epsilon (1 - q), with q the probability of the true class"
    use: ClassVar[str] = "as cross-entropy, with one number to tune: above 0 it pushes on, below 0 it holds back"
    paper: ClassVar[str] = "Leng et al., ICLR 2022, eq. 5"
    epsilon: float = hyper(1.0, -1.0, search=(-0.9, 5.0), doc="weight of the first power of 1 - q")

    def of_truth(self, log_probability: Tensor) -> Tensor:
        return -log_probability - self.epsilon * torch.expm1(log_probability)


@dataclass(frozen=True)
class LogitAdjusted(ByClass):
    """Cross-entropy of logits to which `tau` times the log of each class's share is added (Menon et al. 2021, eq. 10).

    Predictions (N, ..., C), labels (N, ...) of type int64. The model then learns logits without the shares, whose
    largest one minimises the mean error over classes.
    """

    name: ClassVar[str] = "logit-adjusted"
    formula: ClassVar[str] = "-log softmax(p + tau log(priors))_y"
    use: ClassVar[str] = "classes of very unlike size, where the mean accuracy over classes or macro-F1 counts"
    paper: ClassVar[str] = "Menon et al., ICLR 2021, eq. 10"
    tau: float = hyper(1.0, 0.0, search=(0.2, 2.0), doc="how much of the shares is added; 0 is cross-entropy")
    priors: tuple[float, ...] | str = hyper(
        "training", 1e-9, 1.0, tasks="class ratios", words=("training",), doc="share of each class, joined by /"
    )

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        true = log_probabilities(prediction + self._shift(prediction), target)[1]
        return Terms(-true, known(target))

    def _shift(self, like: Tensor) -> Tensor:
        given = self.priors
        assert not isinstance(given, str)
        return self.tau * torch.as_tensor(given, dtype=like.dtype, device=like.device).log()

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return super().complaint(prediction, target) or wrong_length(self.priors, prediction.shape[-1], "priors")

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        shares = super().constant(target, outputs)
        if isinstance(self.priors, str):  # they are the shares of the labels themselves
            return (1 - float(self.tau)) * shares
        return shares - self._shift(shares)[: len(shares)]
