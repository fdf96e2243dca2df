"""The models of the step bench: a trunk, one linear head a task, and a batch, all drawn from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mtl.models import make_trunk


@dataclass(frozen=True)
class StepProblem:
    """A model with its batch and optimizer.

    Every step of every candidate is one of this same problem, whose learning rate is too small to change its nature.
    """

    trunk: nn.Module
    heads: nn.ModuleList
    inputs: Tensor
    targets: Tensor  # (K, batch, outputs)
    optimizer: torch.optim.Optimizer

    @property
    def tasks(self) -> int:
        """K."""
        return len(self.heads)

    def losses(self, features: Tensor) -> list[Tensor]:
        """The K scalar losses."""
        return [
            nn.functional.mse_loss(head(features), target)
            for head, target in zip(self.heads, self.targets, strict=True)
        ]


class _Block(nn.Module):
    """The basic block of ResNet-18 (He et al., CVPR 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1:
            self.skip = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.body(inputs) + self.skip(inputs))


class _Mean(nn.Module):
    """The mean over the tokens of a sequence."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean(1)


def _mlp() -> tuple[nn.Module, int, Tensor]:
    trunk, size = make_trunk("mlp:width=256,depth=3").build((64,))
    return trunk, size, torch.randn(128, 64)


def _cnn() -> tuple[nn.Module, int, Tensor]:
    trunk, size = make_trunk("conv:channels=16,width=64").build((3, 32, 32))
    return trunk, size, torch.randn(32, 3, 32, 32)


def _resnet18() -> tuple[nn.Module, int, Tensor]:
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
    blocks = [_Block(before, after, 1 if before == after else 2) for before, after in itertools.pairwise(widths)]
    return nn.Sequential(*layers, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512, torch.randn(32, 3, 128, 128)


def _transformer() -> tuple[nn.Module, int, Tensor]:
    layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True)
    trunk = nn.Sequential(nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), _Mean())
    return trunk, 256, torch.randn(32, 64, 256)


_TRUNKS: Mapping[str, Callable[[], tuple[nn.Module, int, Tensor]]] = MappingProxyType(
    {"mlp": _mlp, "cnn": _cnn, "resnet18": _resnet18, "transformer": _transformer}
)
#: Trunk and number of tasks of each model. The last two are for a GPU.
MODELS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "mlp-2": ("mlp", 2),
        "mlp-10": ("mlp", 10),
        "mlp-40": ("mlp", 40),
        "cnn-3": ("cnn", 3),
        "cnn-10": ("cnn", 10),
        "resnet18-3": ("resnet18", 3),
        "transformer-3": ("transformer", 3),
    }
)
USUAL = ("mlp-2", "mlp-10", "mlp-40", "cnn-3", "cnn-10")


def make_problem(name: str, device: torch.device, dtype: torch.dtype) -> StepProblem:
    """The problem of that name in `MODELS`, the same at every call."""
    kind, tasks = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk, size, inputs = _TRUNKS[kind]()
        heads = nn.ModuleList(nn.Linear(size, 1) for _ in range(tasks))
        targets = torch.randn(tasks, len(inputs), 1)
    trunk, heads = trunk.to(device, dtype), heads.to(device, dtype)
    # One kernel for all parameters: an optimizer that takes longest of all would make every candidate look alike.
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=1e-6, momentum=0.9, foreach=True)
    return StepProblem(trunk, heads, inputs.to(device, dtype), targets.to(device, dtype), optimizer)
