"""Yeast genes (Elisseeff & Weston, NIPS 2001): which of fourteen functional groups each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import package_file
from mtl.benchmarks.shuffled import shuffled_parts, standardised
from mtl.losses import make_loss
from mtl.metrics import auc, average_precision, binary_accuracy

_FEATURES, _GROUPS = 103, 14


class Yeast(Benchmark):
    """Fourteen binary tasks on the micro-array expressions and phylogenetic profile of 2,417 genes, 103 numbers.

    A gene belongs to four groups on average; the rarest has 34 genes. The package ships the genes without a split of
    its own, so they are split 60/20/20 at random, once and for all. Inputs are standardised by the training split.
    """

    name: ClassVar[str] = "yeast"
    trunk = "mlp:width=128"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 30, "batch_size": 64, "lr": 1e-3, "weight_decay": 1e-4}
    install: ClassVar[str] = "pip install --no-deps river==0.26.1"
    tasks = tuple(
        Task(f"group{number}", make_loss("binary-cross-entropy"), (auc, average_precision, binary_accuracy))
        for number in range(1, _GROUPS + 1)
    )

    def files(self) -> Sequence[Path]:
        return [package_file(self.name, self.install, "river", "datasets", "yeast.csv.gz")]

    def load(self) -> Splits:
        table = torch.from_numpy(_read(str(self.files()[0])))
        inputs, labels = table[:, :_FEATURES], table[:, _FEATURES:]
        parts = shuffled_parts(len(table), 0.6, 0.2)
        inputs = standardised(inputs, parts[0])
        return Splits(
            *(Split(inputs[part], {task.name: labels[part, k] for k, task in enumerate(self.tasks)}) for part in parts)
        )


def _read(path: str) -> np.ndarray:
    """All columns as numbers; labels are written as words."""
    words = {"True": "1", "False": "0", "TRUE": "1", "FALSE": "0"}
    raw = np.loadtxt(path, delimiter=",", skiprows=1, dtype=str)
    numbers: np.ndarray = np.vectorize(lambda word: words.get(word, word))(raw).astype(np.float32)
    return numbers
