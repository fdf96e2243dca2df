"""Losses that a search finds: a polynomial of prediction and label whose coefficients are all searchable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.by_class import ClassesOrLogits, class_frequencies
from mtl.losses.labels import by_class, elementwise, known
from mtl.losses.loss import Terms
from mtl.losses.one_each import Elementwise, means

_CENTRE, _COEFFICIENTS = (-1.0, 1.0), (-5.0, 5.0)
_POLYNOMIAL = (
    "f(x, y) - f(x, x), with f = -(theta2 v + theta3 v^2/2 + theta4 v^3/6 + theta5 u v + theta6 u v^2/2 + "
    "theta7 u^2 v/2), u = x - theta0, v = y - theta1, x the label and y the prediction"
)
_PAPER = "Gonzalez & Miikkulainen, GECCO 2021, the expansion of order 3"


def _centre(start: float, of: str) -> Any:
    return hyper(start, search=_CENTRE, doc=f"where the polynomial is expanded: {of}")


def _coefficient(start: float, of: str) -> Any:
    return hyper(start, search=_COEFFICIENTS, doc=f"coefficient of {of}")


@dataclass(frozen=True)
class Expansion:
    """The third-order polynomial of a label x and a prediction y that TaylorGLO searches.

    With u = x - theta0 and v = y - theta1 it is

        -(theta2 v + theta3 v^2 / 2 + theta4 v^3 / 6 + theta5 u v + theta6 u v^2 / 2 + theta7 u^2 v / 2).

    Powers of u alone have no slope in the prediction, so the paper leaves them out. Here they are chosen such that a
    prediction that equals its label costs 0, which strategies that take ratios or logarithms of losses need. The slope
    is the paper's.
    """

    theta0: float
    theta1: float
    theta2: float
    theta3: float
    theta4: float
    theta5: float
    theta6: float
    theta7: float

    def cost(self, label: Tensor, prediction: Tensor) -> Tensor:
        """The polynomial at (label, prediction) less that at (label, label), element by element."""
        u, v, right = label - self.theta0, prediction - self.theta1, label - self.theta1
        # Differences of powers of v, each divided by prediction - label: no rounding where the prediction is right.
        first = self.theta2 + u * (self.theta5 + self.theta7 * u / 2)
        second = (self.theta3 + self.theta6 * u) * (v + right) / 2
        third = self.theta4 * (v**2 + v * right + right**2) / 6
        return (label - prediction) * (first + second + third)

    def equation(self) -> str:
        """The polynomial f(x, y) with its coefficients as numbers, such as `-(2 x (y - 0.5) - 2 x (y - 0.5)^2)`.

        Terms of coefficient 0 are left out, and the fractions 1/2 and 1/6 are in the numbers.
        """
        u, v = _shifted("x", self.theta0), _shifted("y", self.theta1)
        terms = (
            (self.theta2, v),
            (self.theta3 / 2, f"{v}^2"),
            (self.theta4 / 6, f"{v}^3"),
            (self.theta5, f"{u} {v}"),
            (self.theta6 / 2, f"{u} {v}^2"),
            (self.theta7 / 2, f"{u}^2 {v}"),
        )
        text = " ".join(f"{'-' if number < 0 else '+'} {_times(number)}{term}" for number, term in terms if number)
        return f"-({'-' if text.startswith('-') else ''}{text[2:] or '0'})"


def _shifted(variable: str, by: float) -> str:
    return f"({variable} {'+' if by < 0 else '-'} {abs(by):.6g})" if by else variable


def _times(number: float) -> str:
    return "" if abs(number) == 1 else f"{abs(number):.6g} "


@dataclass(frozen=True)
class Taylor(ClassesOrLogits, Expansion):
    """A loss that is searched: a polynomial of probabilities (TaylorGLO), summed over the classes.

    With u = x - theta0 and v = y - theta1, where x is 1 for the true class and 0 for others and y is the probability
    that the softmax gives, each class costs -(theta2 v + theta3 v^2/2 + theta4 v^3/6 + theta5 u v + theta6 u v^2/2 +
    theta7 u^2 v/2). Predictions (N, ..., C), labels (N, ...) of type int64; or one logit for each label, which is in
    [0, 1]: its classes are yes and no, with the sigmoid and the rest of it as probabilities.

    The start is the expansion of cross-entropy, -x log y, around (0, 1/2): 2 (1 - y)^2 of the true class. No centre
    farther below 1 keeps pushing until y is 1. theta2 has no effect, because probabilities sum to 1, and is searched
    only if it is named. Deviations: what a label costs whatever is predicted is chosen such that
    a right prediction costs 0, and classes are summed and labels averaged, so that the scale is that of cross-entropy.
    """

    name: ClassVar[str] = "taylor"
    kind: ClassVar[str] = "classes"
    formula: ClassVar[str] = f"sum over classes of {_POLYNOMIAL}, as a probability"
    use: ClassVar[str] = "classes, where a search over the loss itself is wanted; a found one is a spec like any other"
    paper: ClassVar[str] = _PAPER
    theta0: float = _centre(0.0, "of the label")
    theta1: float = _centre(0.5, "of the prediction")
    theta2: float = hyper(0.0, doc="coefficient of v; without effect")
    theta3: float = _coefficient(0.0, "v^2/2")
    theta4: float = _coefficient(0.0, "v^3/6")
    theta5: float = _coefficient(2.0, "u v")
    theta6: float = _coefficient(-4.0, "u v^2/2")
    theta7: float = _coefficient(0.0, "u^2 v/2")

    def pull(self, classes: int) -> float:
        """How strongly a step raises the true class against the others, where all `classes` are as likely.

        The gradient for the logit of class j is p_j (s_j - sum_c p_c s_c), with s_c the slope of the cost in the
        probability p_c. With p_c = 1/n it is pull (1/n - 1) / n for the true class, and pull / n^2 for each other one.
        """
        return self.theta5 + self.theta6 * (1 / classes - self.theta1) + self.theta7 * (0.5 - self.theta0)

    def wrong_start(self, classes: int) -> str | None:
        pull = self.pull(classes)
        if pull > 0:
            return None
        what = "keeps" if pull == 0 else "pushes"
        return (
            f"it {what} predictions away from the true class where {classes} classes are as likely: theta5 + "
            f"theta6 (1/{classes} - theta1) + theta7 (1/2 - theta0) is {pull:.4g}, and must be above 0"
        )

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        if elementwise(prediction, target):
            target = target.reshape(prediction.shape)
            there = known(target)
            rate = torch.where(there, target, 0).to(prediction.dtype)
            yes = self.cost(rate, prediction.sigmoid())
            return Terms(yes + self.cost(1 - rate, (-prediction).sigmoid()), there)
        classes = torch.arange(prediction.shape[-1], device=prediction.device)
        true = (target[..., None] == classes).to(prediction.dtype)
        return Terms(self.cost(true, prediction.softmax(-1)).sum(-1), known(target))

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        """The shares of the classes, or the logit of the share of yes: near the best for a loss near cross-entropy."""
        if target.is_floating_point() or (outputs is not None and not by_class(target, outputs)):
            return torch.logit(means(target).clamp(1e-6, 1 - 1e-6))
        return class_frequencies(target)


@dataclass(frozen=True)
class TaylorNumbers(Elementwise, Expansion):
    """A loss that is searched: a polynomial of a predicted number y and its label x (TaylorGLO).

    With u = x - theta0 and v = y - theta1 it is -(theta2 v + theta3 v^2/2 + theta4 v^3/6 + theta5 u v + theta6 u v^2/2
    + theta7 u^2 v/2). Predictions (N, 1) or (N, ...), labels (N,) or (N, ...), best of mean 0 and standard deviation 1,
    for which the ranges of the coefficients are made.

    The start is the squared error, of which the expansion is exact. Deviations: what a label costs whatever is
    predicted is chosen such that a right prediction costs 0; the paper has classes only. With theta4, theta6 or theta7
    the loss has no lowest value: a run that follows it down diverges, and a search passes it over.
    """

    name: ClassVar[str] = "taylor-numbers"
    kind: ClassVar[str] = "numbers"
    formula: ClassVar[str] = _POLYNOMIAL
    use: ClassVar[str] = "numbers, where a search over the loss itself is wanted; a found one is a spec like any other"
    paper: ClassVar[str] = _PAPER
    theta0: float = _centre(0.0, "of the label")
    theta1: float = _centre(0.0, "of the prediction")
    theta2: float = _coefficient(0.0, "v")
    theta3: float = _coefficient(-2.0, "v^2/2")
    theta4: float = _coefficient(0.0, "v^3/6")
    theta5: float = _coefficient(2.0, "u v")
    theta6: float = _coefficient(0.0, "u v^2/2")
    theta7: float = _coefficient(0.0, "u^2 v/2")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.cost(target, prediction)
