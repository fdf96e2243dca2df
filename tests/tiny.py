"""A benchmark of two tasks that trains in a fraction of a second; also used as a user's own `path.py:Class`."""

import torch
from torch import nn

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.losses import MSE, CrossEntropy
from mtl.metrics import accuracy, mae, r2
from mtl.models import HardSharing


class Tiny(Benchmark):
    """The sign of a sum of ten numbers, and a product of two of them."""

    name = "tiny"
    trunk = "mlp:width=16,depth=1"
    recipe = {"epochs": 3, "batch_size": 32, "lr": 1e-2}  # noqa: RUF012
    tasks = (Task("sign", CrossEntropy(), (accuracy,), 2), Task("product", MSE(), (mae, r2)))

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(*(self._split(size, generator) for size in (256, 64, 64)))

    @staticmethod
    def _split(size: int, generator: torch.Generator) -> Split:
        x = torch.randn(size, 10, generator=generator)
        return Split(x, {"sign": (x.sum(1) > 0).long(), "product": x[:, 0] * x[:, 1]})


class TinyWithDropout(Tiny):
    """The same with dropout, so that a resumed run has to restore the random state."""

    name = "tiny-dropout"
    trunk = "mlp:width=16,depth=1,dropout=0.3"


class WithNaN(Tiny):
    """One feature of example 7 is NaN."""

    name = "with-nan"

    def load(self) -> Splits:
        splits = super().load()
        splits.train.inputs[7, 0] = torch.nan
        return splits


class MissingLabels(Tiny):
    """Most products are not known."""

    name = "missing-labels"
    recipe = {"epochs": 2, "batch_size": 4}  # noqa: RUF012

    def load(self) -> Splits:
        splits = super().load()
        splits.train.targets["product"][torch.arange(256) % 8 > 0] = torch.nan
        return splits


class OwnModel(Tiny):
    """Builds its model itself."""

    name = "own-model"

    def model(self, tasks, inputs):
        return HardSharing(nn.Linear(inputs.shape[1], 4), {task.name: nn.Linear(4, task.outputs) for task in tasks})


class OwnTrunk(OwnModel):
    """Builds its model itself, of the trunk that is named."""

    name = "own-trunk"

    def model(self, tasks, inputs):
        assert self.trunk
        return super().model(tasks, inputs)


class NoModel:
    """Lacks `model`."""

    name = "no-model"
    tasks = Tiny.tasks

    def load(self) -> Splits:
        return Tiny().load()


class NeedsPackage(Tiny):
    """Its data is in a package that nobody has."""

    name = "needs-package"
    install = "pip install no-such-package"

    def load(self) -> Splits:
        import no_such_package  # noqa: F401

        return super().load()


def _nan_at(first: int, last: int):
    """A loss that is NaN from training step `first` to `last`, and never where nothing is trained."""
    calls = {"n": -1}

    def loss(prediction, target):
        if torch.is_grad_enabled():
            calls["n"] += 1
        value = (prediction.reshape(-1) - target).square().mean()
        return value * torch.nan if torch.is_grad_enabled() and first <= calls["n"] <= last else value

    return loss


class Diverging(Tiny):
    """The second task's loss is NaN from the sixth step on."""

    name = "diverging"

    def __init__(self) -> None:
        self.tasks = (Tiny.tasks[0], Task("product", _nan_at(5, 10**9), (mae, r2)))


class Stumbling(Tiny):
    """The second task's loss is NaN in the sixth step."""

    name = "stumbling"

    def __init__(self) -> None:
        self.tasks = (Tiny.tasks[0], Task("product", _nan_at(5, 5), (mae, r2)))
