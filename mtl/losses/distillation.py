"""Losses against the outputs of a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.labels import known
from mtl.losses.loss import Loss, Terms
from mtl.losses.one_each import means, shape_of


@dataclass(frozen=True)
class KL(Loss):
    """Kullback-Leibler divergence from a teacher's classes, both softened by a temperature (Hinton et al. 2015).

    Predictions (N, ..., C), logits; labels (N, ..., C), the teacher's logits, or its probabilities with `labels` set
    so. Multiplied by the squared temperature, so that its gradient keeps its size. The terms are (N, ...); one is
    missing if any number of its label is.
    """

    name: ClassVar[str] = "kl"
    kind: ClassVar[str] = "teacher"
    formula: ClassVar[str] = "T^2 sum_c t_c log(t_c / softmax(p / T)_c), with t the teacher's softmax(y / T)"
    use: ClassVar[str] = "learning from a larger model, or from labels that are shares of classes"
    paper: ClassVar[str] = "Hinton et al. 2015, section 2"
    temperature: float = hyper(1.0, 1e-2, 1e3, search=(1.0, 10.0), log=True, doc="T, how soft both become")
    labels: str = hyper("logits", choices=("logits", "probabilities"), doc="what the labels are")

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        there = known(target).all(-1)
        logs = self._teacher(torch.where(there[..., None], target, 0.0).to(prediction.dtype))
        found = F.log_softmax(prediction / self.temperature, -1)
        return Terms(self.temperature**2 * (logs.exp() * (logs - found)).sum(-1), there)

    def _teacher(self, target: Tensor) -> Tensor:
        if self.labels == "logits":
            return F.log_softmax(target / self.temperature, -1)
        shares = target.clamp(min=torch.finfo(target.dtype).tiny)  # zero times its logarithm is zero
        return F.log_softmax(shares.log() / self.temperature, -1)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if prediction.shape[1:] != target.shape[1:] or target.ndim < 2 or target.shape[-1] < 2:
            return (
                "takes logits of classes on the last axis, of the model and of its teacher: here an example has "
                f"outputs of shape {shape_of(prediction)} and labels of shape {shape_of(target)}"
            )
        if not target.is_floating_point():
            return "takes the outputs of a teacher, which are floating-point numbers: here are whole ones"
        if self.labels == "probabilities":
            rows = target[known(target).all(-1)]
            if len(rows) and bool(((rows < 0) | ((rows.sum(-1, keepdim=True) - 1).abs() > 1e-3)).any()):
                return "takes probabilities that add up to 1: here are others"
        return None

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        # The softened mean of what the teacher says, sharpened again.
        shares = torch.where(known(target).all(-1, keepdim=True), self._teacher(target).exp(), torch.nan)
        return float(self.temperature) * means(shares).reshape(target.shape[1:]).clamp(min=1e-12).log()
