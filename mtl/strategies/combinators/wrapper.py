from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class Wrapper(Strategy):
    """A strategy around another one, `inner`; its text is the inner spec followed by its own."""

    paper: ClassVar[str] = ""
    inner: Strategy

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return self.inner.needs

    @property
    def domain(self) -> str:  # type: ignore[override]
        return self.inner.domain

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return self.inner.elementwise

    @property
    def tracking(self) -> bool:  # type: ignore[override]
        return self.inner.tracking

    @property
    def vmappable(self) -> bool:  # type: ignore[override]
        return self.inner.vmappable

    @property
    def measuring(self) -> dict[str, Any]:
        return self.inner.measuring

    def needs_at(self, step: int) -> frozenset[str]:
        return self.inner.needs_at(step)

    def suffices(self, names: Collection[str]) -> bool:
        return self.inner.suffices(names)

    def check_tasks(self, num_tasks: int) -> None:
        self.inner.check_tasks(num_tasks)

    def init(self, losses: Tensor) -> Any:
        return self.inner.init(losses)

    def init_sized(self, losses: Tensor, dimension: int) -> Any:
        return self.inner.init_sized(losses, dimension)

    def gradients(self, state: Any, jacobian: Tensor) -> Tensor:
        return self.inner.gradients(state, jacobian)

    def current(self, state: Any, signals: Signals) -> Tensor:
        return self.inner.current(state, signals)

    def __str__(self) -> str:
        return f"{self.inner}+{super().__str__()}"


def filled(like: Tensor, strategy: Strategy, dimension: int | None, value: float) -> Tensor:
    """Weights filled with `value`, in the shape that `strategy` gives: (K,), or (K, D) when it is elementwise."""
    if not strategy.elementwise:
        return torch.full_like(like, value)
    if dimension is None:
        raise ValueError(f"{strategy} gives one weight a coordinate: begin with init_sized(losses, dimension)")
    return like.new_full((len(like), dimension), value)
