"""Which of fourteen functional groups does a gene belong to? Fourteen labels of one example as one task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from mtl.benchmarks import Benchmark, Split, Splits, Task, find_benchmark
from mtl.losses import make_loss
from mtl.metrics import average_precision, binary_accuracy, f1

#: Of each label by itself, and then the mean over labels.
MACRO_F1 = dataclasses.replace(f1, by_output=True)
MACRO_PRECISION = dataclasses.replace(average_precision, by_output=True)


class Genes(Benchmark):
    """The fourteen labels of `yeast` as one task with fourteen logits; the rarest group has 34 of 2,417 genes."""

    name = "genes"
    trunk = "mlp:width=128"
    recipe: ClassVar[Mapping[str, Any]] = {"steps": 400, "batch_size": 64, "lr": 1e-3}
    tasks = (Task("groups", make_loss("multi-label"), (MACRO_F1, MACRO_PRECISION, binary_accuracy), outputs=14),)

    def load(self) -> Splits:
        yeast = find_benchmark("yeast")
        names = [task.name for task in yeast.tasks]
        return Splits(
            *(
                Split(split.inputs, {"groups": torch.stack([split.targets[name] for name in names], 1)})
                for _, split in yeast.load().items()
            )
        )
