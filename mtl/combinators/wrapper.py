from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mtl.strategy import Strategy


@dataclass(frozen=True)
class Wrapper(Strategy):
    """A strategy around another one, `inner`; its text is the inner spec followed by its own."""

    paper: ClassVar[str] = ""
    inner: Strategy

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner.elementwise:
            raise ValueError(f"{self.name}: {self.inner.name} gives one weight a coordinate and cannot be wrapped")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return self.inner.needs

    def needs_at(self, step: int) -> frozenset[str]:
        return self.inner.needs_at(step)

    def check_tasks(self, num_tasks: int) -> None:
        self.inner.check_tasks(num_tasks)

    def init(self, losses: Tensor) -> Any:
        return self.inner.init(losses)

    def __str__(self) -> str:
        return f"{self.inner}+{super().__str__()}"
