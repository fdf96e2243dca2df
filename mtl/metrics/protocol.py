"""What a metric is: which way is better, what is perfect, and how it is computed from the labels that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtl.losses.labels import classes_last, elementwise, known

Array = npt.NDArray[Any]

NAN = float("nan")


class Accumulator(Protocol):
    """A metric of one model over examples that come a few at a time."""

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Take some examples in."""

    def compute(self) -> float:
        """The metric over all examples so far."""


@dataclass(frozen=True)
class Parts:
    """A metric that follows from a summary of the labels, so that nobody has to hold predictions for all of them.

    Args:
        of: the summary of some labels, from predictions and labels.
        value: the metric from the summary of all.
        join: two summaries as one.
    """

    of: Callable[[Array, Array], Array]
    value: Callable[[Array], float]
    join: Callable[[Array, Array], Array] = np.add

    def __call__(self, guess: Array, truth: Array) -> float:
        """The metric of labels that are all here."""
        return self.value(self.of(guess, truth))


@dataclass(frozen=True)
class Metric:
    """A number for predictions and labels.

    Args:
        name: as shown in results.
        function: from predictions and labels without missing ones, as NumPy arrays. With one prediction for each label
            both are of one shape, (n, outputs), or (n, 1) where some labels of an example are missing. With one for
            each class they are (n, C) and (n,). NaN says that the metric is undefined for these.
        higher_is_better: which way is better.
        perfect: the value of perfect predictions.
        by_output: compute it for each output by itself and take the mean, as is usual for R² and RMSE.
        parts: the same metric from summaries; without them predictions are held until all are there.
        vectors: labels are vectors of three numbers, on the second axis or else on the last one; both are (n, 3).
        logarithms: predictions are read as logarithms of the numbers that the labels are.
    """

    name: str
    function: Callable[[Array, Array], float]
    higher_is_better: bool
    perfect: float
    by_output: bool = False
    parts: Parts | None = None
    vectors: bool = False
    logarithms: bool = False

    def __call__(self, prediction: Tensor, target: Tensor) -> float:
        """The metric over the labels that are there.

        Args:
            prediction: (N, ...), one for each label, or for labels of C classes (N, ..., C) or (N, C, ...).
            target: labels (N, ...); missing ones are NaN or -100.

        Returns:
            NaN when there is no label, when the prediction of one is not finite, or where the metric is undefined.
        """
        guess, truth, there = self._arrays(prediction, target)
        if guess.shape != truth.shape:
            return self._of(guess[there], truth[there])
        if self.by_output:
            columns = [
                (guess[rows, k][:, None], truth[rows, k][:, None]) for k, rows in enumerate(there.T) if rows.any()
            ]
            return float(np.mean([self._of(*column) for column in columns])) if columns else NAN
        some = there.any(1)
        if self.vectors or there[some].all():
            return self._of(guess[some], truth[some])
        return self._of(guess[there][:, None], truth[there][:, None])

    def begin(self) -> Accumulator:
        """The metric of examples that come a few at a time: by summaries, or of all when all are there."""
        return _Held(self) if self.parts is None else _Summed(self, self.parts)

    def columns(self, prediction: Tensor, target: Tensor) -> dict[int, tuple[Array, Array]]:
        """Predictions and labels that are there, as `parts` take them; of each output by itself with `by_output`."""
        guess, truth, there = self._arrays(prediction, target)
        if guess.shape != truth.shape:
            return {0: (guess[there], truth[there])}
        if self.by_output:
            return {k: (guess[rows, k][:, None], truth[rows, k][:, None]) for k, rows in enumerate(there.T)}
        if self.vectors:
            return {0: (guess[there.any(1)], truth[there.any(1)])}
        return {0: (guess[there][:, None], truth[there][:, None])}

    def _arrays(self, prediction: Tensor, target: Tensor) -> tuple[Array, Array, Array]:
        """Predictions, labels and which of them are there: (N, outputs), or by class (N, ..., C) and (N, ...)."""
        prediction = classes_last(prediction.detach(), target)
        if self.vectors:
            prediction, target = (self._rows(each.detach()) for each in (prediction.reshape(target.shape), target))
            whole = known(target).all(1, keepdim=True) & (target != 0).any(1, keepdim=True)
            target = torch.where(whole, target, torch.nan)
        there = known(target).cpu().numpy()
        labels = target.detach().double() if target.is_floating_point() else target.detach()
        guess, truth = prediction.double().cpu().numpy(), labels.cpu().numpy()
        if elementwise(prediction, target):
            guess, truth, there = (each.reshape(len(each), -1) for each in (guess, truth, there))
        elif prediction.shape[:-1] != target.shape:
            raise ValueError(
                f"{self.name} takes a prediction for each label, or for each of its classes on the last axis: here "
                f"predictions have shape {tuple(prediction.shape)} and labels {tuple(target.shape)}"
            )
        return guess, truth, there

    def _rows(self, vectors: Tensor) -> Tensor:
        if vectors.ndim > 1 and vectors.shape[1] == 3:
            vectors = vectors.movedim(1, -1)
        if vectors.shape[-1] != 3:
            raise ValueError(
                f"{self.name} takes vectors of three numbers: here labels have shape {tuple(vectors.shape)}"
            )
        return vectors.reshape(-1, 3)

    def _of(self, guess: Array, truth: Array) -> float:
        if len(truth) == 0 or not np.isfinite(guess).all():
            return NAN
        return float(self.function(guess, truth))

    def skill(self, value: float, reference: float) -> float:
        """How much of the way from a reference forecast to perfection was made: 1 is perfect, 0 no better.

        The skill score of forecast verification (Murphy 1988), (A - A_ref) / (A_perfect - A_ref); NaN where the
        reference is perfect.
        """
        way = self.perfect - reference
        return (value - reference) / way if way else NAN


class _Summed:
    """Keeps a summary of what came, of each output with `by_output`."""

    def __init__(self, metric: Metric, parts: Parts) -> None:
        self._metric, self._parts = metric, parts
        self._found: dict[int, Array] = {}
        self._broken = False

    def update(self, prediction: Tensor, target: Tensor) -> None:
        for number, (guess, truth) in self._metric.columns(prediction, target).items():
            if len(truth) == 0:
                continue
            self._broken = self._broken or not bool(np.isfinite(guess).all())
            if not self._broken:
                summary = self._parts.of(guess, truth)
                before = self._found.get(number)
                self._found[number] = summary if before is None else self._parts.join(before, summary)

    def compute(self) -> float:
        if self._broken or not self._found:
            return NAN
        return float(np.mean([self._parts.value(summary) for summary in self._found.values()]))


class _Held:
    """Keeps all that came, in the memory of the machine."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._kept: list[tuple[Tensor, Tensor]] = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self._kept.append((prediction.detach().cpu(), target.detach().cpu()))

    def compute(self) -> float:
        if not self._kept:
            return NAN
        prediction, target = (torch.cat(each) for each in zip(*self._kept, strict=True))
        return self._metric(prediction, target)
