"""Errors of numbers for tasks whose output is the logarithm of a mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.inner import inner_loss
from mtl.losses.likelihood import LIMIT, LIMIT_DOC, bounded
from mtl.losses.loss import Loss
from mtl.losses.one_each import Counts, Regression


@dataclass(frozen=True)
class Exponential(Counts):
    """A loss of errors, such as `mse`, of e^prediction, for labels that are predicted by the logarithm of their mean.

    So a count can be learned by errors in its own unit with the model and the metrics that its other losses have.
    """

    name: ClassVar[str] = "exp"
    formula: ClassVar[str] = "l(e^p, y), with l the loss that is named"
    use: ClassVar[str] = "counts and amounts by errors in their own unit; large ones decide"
    paper: ClassVar[str] = "Santos Silva & Tenreyro, Review of Economics and Statistics 2006"
    of: str = hyper("mse", text="SPEC", doc="loss of the error, such as mse, mae or huber:delta=2")
    limit: float = hyper(LIMIT, 1.0, 30.0, doc=LIMIT_DOC)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.given, Regression):
            raise ValueError(f"exp: of={self.of} must be a loss of errors, such as mse, mae or huber:delta=2")

    @property
    def given(self) -> Loss:
        """The loss `of`."""
        return inner_loss(self.of)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        error = bounded(prediction, self.limit).exp() - target
        given = self.given
        assert isinstance(given, Regression)
        return given.of_error(error)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        return self.given.constant(target, outputs).clamp(min=1e-6).log()
