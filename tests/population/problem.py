"""A benchmark in float64 that trains in milliseconds, and what several tests compare."""

import torch
from torch import nn

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.losses import MSE, CrossEntropy, Huber
from mtl.metrics import accuracy, mae, r2
from mtl.models import HardSharing
from mtl.train import Settings, train


class Three(Benchmark):
    """A class and two numbers from six inputs; needs float64 as the default dtype."""

    name = "three"
    trunk = "mlp:width=8,depth=1"
    recipe = {"steps": 100, "batch_size": 16, "lr": 1e-2}  # noqa: RUF012
    tasks = (
        Task("sign", CrossEntropy(), (accuracy,), 2),
        Task("product", MSE(), (mae, r2)),
        Task("square", Huber(), (mae,)),
    )

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(*(self._split(size, generator) for size in (320, 32, 32)))

    @staticmethod
    def _split(size: int, generator: torch.Generator) -> Split:
        x = torch.randn(size, 6, generator=generator, dtype=torch.float64)
        targets = {"sign": (x.sum(1) > 0).long(), "product": x[:, 0] * x[:, 1], "square": x[:, 2] ** 2 - 1}
        return Split(x, targets)


class ThreeMissing(Three):
    """Most products are not known, so that batches lack the task."""

    name = "three-missing"
    recipe = {"steps": 60, "batch_size": 4, "weight_decay": 1e-2}  # noqa: RUF012

    def load(self) -> Splits:
        splits = super().load()
        splits.train.targets["product"][torch.arange(320) % 6 > 0] = torch.nan
        return splits


class Pictures(Three):
    """The same from pictures of 8 x 8."""

    name = "pictures"
    trunk = "conv:channels=2,width=8"
    recipe = {"steps": 12, "batch_size": 16, "lr": 1e-2}  # noqa: RUF012

    @staticmethod
    def _split(size: int, generator: torch.Generator) -> Split:
        x = torch.randn(size, 1, 8, 8, generator=generator, dtype=torch.float64)
        means = x.flatten(1).mean(1)
        return Split(x, {"sign": (means > 0).long(), "product": means, "square": x[:, 0, 0, 0]})


class Normed(Three):
    """Batch normalisation and dropout in the trunk; the sizes of the batches in training are written down."""

    name = "normed"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def model(self, tasks, inputs):  # noqa: ARG002
        trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        model = HardSharing(trunk, {task.name: nn.Linear(8, task.outputs) for task in tasks})
        trunk.register_forward_pre_hook(
            lambda trunk, given: self.seen.append(len(given[0])) if trunk.training else None
        )
        return model


def assert_is_the_single_run(result, benchmark, splits, member, settings: Settings, tolerance: float = 1e-5) -> None:
    """`result` of a population's member equals `mtl.train.train` in all that it reports but time and memory."""
    tasks = member.tasks(benchmark.tasks)
    alone = train(benchmark, splits, member.strategy, member.resolved(settings), seed=member.seed, tasks=tasks)
    assert (result.status, result.best_step) == (alone.status, alone.best_step)
    assert result.skipped == {kind: number for kind, number in alone.skipped.items() if number}
    for key in ("steps", "forwards", "backwards"):
        assert result.cost[key] == alone.cost[key], key
    for key, curve in alone.history.items():
        close(result.history[key], curve, tolerance)
    close(result.selection, alone.selection, tolerance)
    for split in ("metrics", "validation"):
        for task, values in getattr(alone, split).items():
            for metric, value in values.items():
                close(getattr(result, split)[task][metric], value, tolerance)


def close(got, wanted, tolerance: float) -> None:
    """Equal numbers at equal places of nested lists."""
    if isinstance(wanted, list):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            close(one, other, tolerance)
    elif isinstance(wanted, float):
        assert (
            got == wanted or abs(got - wanted) <= tolerance * max(1, abs(wanted)) or (got != got and wanted != wanted)
        ), (got, wanted)
    else:
        assert got == wanted
