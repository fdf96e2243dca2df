"""Eight gauges of a river in cubic metres a second or so: tasks whose numbers are of very unlike size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from mtl.benchmarks import Benchmark, Split, Splits, Task, find_benchmark
from mtl.benchmarks.packaged import parquet_files, read_parquet
from mtl.losses import make_loss
from mtl.metrics import mae


class Gauges(Benchmark):
    """The eight regressions of `rf1`, with labels in the unit of the data set: deviations go from 0.5 to 37.

    Only the mean of the training split is taken off each label. Inputs and splits are those of `rf1`.
    """

    name = "gauges"
    trunk = "mlp:width=128"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 8, "batch_size": 64, "lr": 1e-3}
    tasks = tuple(Task(task.name, make_loss("mse"), (mae,)) for task in find_benchmark("rf1").tasks)

    def load(self) -> Splits:
        rf1 = find_benchmark("rf1")
        standard = rf1.load()
        table = read_parquet(parquet_files(self.name, rf1.install, "rf1_train.parquet.brotli")[0])
        train = table.iloc[: len(standard.train)]
        size = {task.name: float(np.nanstd(train[f"{task.name.upper()}_48H__0"])) for task in self.tasks}

        def in_unit(split: Split) -> Split:
            return Split(split.inputs, {name: labels * size[name] for name, labels in split.targets.items()})

        return Splits(*(in_unit(split) for _, split in standard.items()))
