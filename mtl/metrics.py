"""Metrics of a task: which way is better, what is perfect, and how they are computed (mostly by scikit-learn)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mtl.losses import IGNORE

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number for predictions and targets, both (N, ...) arrays without missing labels."""

    name: str
    function: Callable[[Array, Array], float]
    higher_is_better: bool
    perfect: float

    def __call__(self, prediction: Tensor, target: Tensor) -> float:
        """The metric over the labels that are there; NaN when there is none, or when a prediction is not finite."""
        guess, truth = prediction.detach().double().cpu().numpy(), target.detach().cpu().numpy()
        if truth.dtype.kind == "f" and truth.size == guess.size:
            guess, truth = guess.reshape(len(truth), -1), truth.reshape(len(truth), -1)
            known = ~np.isnan(truth).any(1)
        else:
            known = truth != IGNORE
        guess, truth = guess[known], truth[known]
        if len(truth) == 0 or not np.isfinite(guess).all():
            return float("nan")
        return float(self.function(guess, truth))

    def skill(self, value: float, reference: float) -> float:
        """How much of the way from a reference forecast to perfection was made: 1 is perfect, 0 no better.

        The skill score of forecast verification (Murphy 1988), (A - A_ref) / (A_perfect - A_ref).
        """
        way = self.perfect - reference
        return (value - reference) / way if way else 0.0


def _sklearn(name: str, guess: Array, truth: Array) -> float:
    from sklearn import metrics  # takes more than a second to import, which most commands spare

    return float(getattr(metrics, name)(truth, guess))


# The plain means are written out: scikit-learn takes a millisecond to check their arguments, and a population of 64
# runs asks for thousands.
accuracy = Metric("accuracy", lambda guess, truth: float((guess.argmax(-1) == truth).mean()), True, 1.0)
balanced_accuracy = Metric(
    "balanced_accuracy", lambda guess, truth: _sklearn("balanced_accuracy_score", guess.argmax(-1), truth), True, 1.0
)
binary_accuracy = Metric("accuracy", lambda guess, truth: float(((guess > 0) == (truth > 0.5)).mean()), True, 1.0)
auc = Metric("auc", lambda guess, truth: _sklearn("roc_auc_score", guess.ravel(), truth.ravel()), True, 1.0)
mae = Metric("mae", lambda guess, truth: float(np.abs(guess - truth).mean()), False, 0.0)
rmse = Metric("rmse", lambda guess, truth: _sklearn("root_mean_squared_error", guess, truth), False, 0.0)
r2 = Metric("r2", lambda guess, truth: _sklearn("r2_score", guess, truth), True, 1.0)
