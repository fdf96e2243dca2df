"""The problem of `mtl bench search`: a small network, two tasks, and the size of the search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.losses import MSE, CrossEntropy
from mtl.metrics import accuracy, mae

STRATEGY = "uncertainty"
#: Bounds of what is searched, all on a logarithmic scale: the names that the space gives them.
RANGES = {"lr": (1e-4, 1e-1), "weight_decay": (1e-6, 1e-2), "strategy.uncertainty.lr": (1e-4, 1e-1)}


class SmallProblem(Benchmark):
    """A sign and a product of twenty numbers, from 1,024 examples, by an MLP of 20-32-32."""

    name: ClassVar[str] = "small"
    trunk = "mlp:width=32,depth=2"
    recipe: ClassVar[Mapping[str, Any]] = {"batch_size": 64}
    tasks = (Task("sign", CrossEntropy(), (accuracy,), 2), Task("product", MSE(), (mae,)))

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(*(_split(size, generator) for size in (1024, 256, 256)))


def _split(size: int, generator: torch.Generator) -> Split:
    x = torch.randn(size, 20, generator=generator)
    return Split(x, {"sign": (x.sum(1) > 0).long(), "product": x[:, 0] * x[:, 1]})


@dataclass(frozen=True)
class Size:
    """How large a search is, and where its files go.

    Attributes:
        model: of the members; the problem's own when None.
        batch_size: likewise.
    """

    members: int
    steps: int
    interval: int
    folder: str
    model: str | None = None
    batch_size: int | None = None

    def text(self) -> str:
        """As an argument of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Size:
        """The inverse of `text`."""
        return cls(**json.loads(text))
