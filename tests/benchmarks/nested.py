"""Benchmarks whose inputs are several tensors, and whose labels are pictures."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.losses import MAE, MSE, BinaryCrossEntropy, CrossEntropy
from mtl.metrics import accuracy, mae
from mtl.models import HardSharing

SIZES = (48, 20, 20)


class Bag(nn.Module):
    """The mean embedding of the words that are there, and plain numbers beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rest = nn.Embedding(11, 6), nn.Linear(3, 6)

    def forward(self, inputs):
        there = inputs["mask"][..., None]
        mean = (self.words(inputs["tokens"]) * there).sum(1) / there.sum(1).clamp(min=1)
        return torch.relu(mean + self.rest(inputs["numbers"]))


class Text(Benchmark):
    """Words with a mask, and three numbers."""

    name = "text"
    recipe = {"steps": 12, "batch_size": 8, "lr": 0.05}  # noqa: RUF012
    tasks = (Task("positive", BinaryCrossEntropy(), (accuracy,)), Task("score", MSE(), (mae,)))

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(*(self.split(size, generator) for size in SIZES))

    @staticmethod
    def split(size: int, generator: torch.Generator) -> Split:
        tokens = torch.randint(11, (size, 5), generator=generator)
        mask = torch.rand(size, 5, generator=generator) < 0.7
        numbers = torch.randn(size, 3, generator=generator)
        score = (tokens * mask).sum(1) / 10 + numbers[:, 0]
        inputs = {"tokens": tokens, "mask": mask, "numbers": numbers}
        return Split(inputs, {"positive": (score > score.median()).float(), "score": score})

    def model(self, tasks, inputs):
        assert set(inputs) == {"tokens", "mask", "numbers"} and len(inputs["mask"]) <= 2
        return HardSharing(Bag(), {task.name: nn.Linear(6, task.outputs) for task in tasks})


class Views(NamedTuple):
    """Two pictures of one scene."""

    near: Tensor
    far: Tensor


class Dense(nn.Module):
    """A 1 x 1 convolution with as many channels as the task has outputs, the classes of a pixel on the last axis."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head, self.classes = nn.Conv2d(4, task.outputs, 1), isinstance(task.loss, CrossEntropy)

    def forward(self, features):
        maps = self.head(features)
        return maps.movedim(1, -1) if self.classes else maps


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, inputs):
        return torch.relu(self.near(inputs.near) + self.far(inputs.far))


class Rooms(Benchmark):
    """A class (N, H, W), a depth (N, 1, H, W) and a direction (N, 3, H, W) for each pixel of a named tuple of pictures.

    Class 255 and depth 0 say that a pixel has no label.
    """

    name = "rooms"
    recipe = {"steps": 8, "batch_size": 8, "lr": 0.05}  # noqa: RUF012
    tasks = (
        Task("kind", CrossEntropy(), (accuracy,), 3, ignore=255),
        Task("depth", MAE(), (mae,), ignore=0),
        Task("normal", MSE(), (mae,), 3),
    )

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(*(self.split(size, generator) for size in SIZES))

    @staticmethod
    def split(size: int, generator: torch.Generator) -> Split:
        near = torch.randn(size, 1, 6, 5, generator=generator)
        far = torch.randn(size, 2, 6, 5, generator=generator)
        kind = (near[:, 0] > 0).to(torch.uint8) + (far[:, 0] > 0.5).to(torch.uint8)
        depth = (near + far[:, :1]).abs() + 0.1
        gone = torch.rand(size, 6, 5, generator=generator) < 0.1
        kind[gone], depth[gone[:, None]] = 255, 0
        normal = torch.cat([near, far], 1)
        return Split(Views(near, far), {"kind": kind, "depth": depth, "normal": normal})

    def model(self, tasks, inputs):
        assert isinstance(inputs, Views)
        return HardSharing(Trunk(), {task.name: Dense(task) for task in tasks})
