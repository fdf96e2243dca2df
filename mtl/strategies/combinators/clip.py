from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.combinators.wrapper import Wrapper
from mtl.strategies.strategy import Signals


@dataclass(frozen=True)
class Clip(Wrapper):
    """The inner weights kept within [low, high]."""

    name: ClassVar[str] = "clip"
    low: float = hyper(0.0, doc="smallest weight")
    high: float = hyper(10.0, doc="largest weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.low, Tensor) and not isinstance(self.high, Tensor) and self.low > self.high:
            raise ValueError(f"clip: low={self.low:g} is above high={self.high:g}")

    def __call__(self, state: Any, signals: Signals) -> tuple[Tensor, Any]:
        weights, state = self.inner(state, signals)
        return weights.clamp(self.low, self.high), state

    def current(self, state: Any, signals: Signals) -> Tensor:
        return self.inner.current(state, signals).clamp(self.low, self.high)
