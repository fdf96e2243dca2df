"""Models on which training steps are timed: a trunk, a linear head a task, one batch of random data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mtl.bench.networks import ResNet18, TextEncoder
from mtl.models import make_trunk


@dataclass(frozen=True)
class Problem:
    """A trunk, the shape of its inputs and the number of regression tasks on it."""

    name: str
    tasks: int
    batch: int
    shape: tuple[int, ...]
    trunk: Callable[[tuple[int, ...]], tuple[nn.Module, int]]

    def build(self, device: torch.device | str = "cpu") -> Model:
        """A model with its batch; always the same parameters and data."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            trunk, width = self.trunk(self.shape)
            model = Model(trunk, width, self.tasks)
            inputs, targets = torch.randn(self.batch, *self.shape), torch.randn(self.tasks, self.batch, 1)
        return model.to(device).on(inputs.to(device), targets.to(device))


class Model(nn.Module):
    """Hard parameter sharing, whose losses are read in two steps for those who split the backward pass there."""

    def __init__(self, trunk: nn.Module, width: int, tasks: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))

    def on(self, inputs: Tensor, targets: Tensor) -> Model:
        """This model, with the batch that its losses are of."""
        self.inputs, self.targets = inputs, targets
        return self

    def features(self) -> Tensor:
        """(batch, width)."""
        features: Tensor = self.trunk(self.inputs)
        return features

    def losses(self, features: Tensor) -> list[Tensor]:
        """A scalar a task."""
        pairs = zip(self.heads, self.targets, strict=True)
        return [nn.functional.mse_loss(head(features), target) for head, target in pairs]


def _named(spec: str) -> Callable[[tuple[int, ...]], tuple[nn.Module, int]]:
    return lambda shape: make_trunk(spec).build(shape)


PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        problem.name: problem
        for problem in (
            *(Problem(f"mlp-{k}", k, 128, (64,), _named("mlp:width=512,depth=2")) for k in (2, 10, 40)),
            *(Problem(f"cnn-{k}", k, 64, (1, 28, 28), _named("conv:channels=16,width=64")) for k in (3, 10)),
            Problem("resnet18-3", 3, 32, (3, 32, 32), lambda _shape: (ResNet18(), ResNet18.width)),
            Problem("transformer-3", 3, 32, (64, 256), lambda _shape: (TextEncoder(), TextEncoder.width)),
            Problem("tiny-2", 2, 8, (4,), _named("mlp:width=8,depth=1")),
        )
    }
)
#: Those of a plain `mtl bench steps`; the larger ones are for a GPU, `tiny-2` for tests.
USUAL = ("mlp-2", "mlp-10", "mlp-40", "cnn-3", "cnn-10")
