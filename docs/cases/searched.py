"""Digits for a loss that is searched, and other digits to see whether it is good elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits

from mtl.benchmarks import Benchmark, Split, Splits, Task, find_benchmark
from mtl.benchmarks.shuffled import shuffled_parts
from mtl.losses import make_loss
from mtl.metrics import accuracy, log_loss

_RECIPE = {"steps": 400, "batch_size": 50, "lr": 3e-3}


class Digits(Benchmark):
    """Handwritten digits of scikit-learn, 8 x 8 pixels: 200 to learn from, 400 to select by, 1,197 to test with."""

    name = "digits"
    trunk = "mlp:width=64"
    recipe: ClassVar[Mapping[str, Any]] = _RECIPE
    tasks = (Task("digit", make_loss("cross-entropy"), (accuracy, log_loss), outputs=10),)

    def load(self) -> Splits:
        pictures, digits = load_digits(return_X_y=True)
        inputs, labels = torch.from_numpy(pictures).float() / 8 - 1, torch.from_numpy(digits).long()
        parts = shuffled_parts(len(labels), 200.5 / len(labels), 400.5 / len(labels))
        return Splits(*(Split(inputs[part], {"digit": labels[part]}) for part in parts))


class LeftDigit(Benchmark):
    """The left one of the two digits that lie over each other in `multi-mnist`: 1,000 pictures to learn from."""

    name = "left-digit"
    trunk = "mlp:width=64"
    recipe: ClassVar[Mapping[str, Any]] = _RECIPE
    tasks = Digits.tasks

    def load(self) -> Splits:
        splits = find_benchmark("multi-mnist").load()

        def first(split: Split, number: int) -> Split:
            return Split(split.inputs[:number], {"digit": split.targets["left"][:number]})

        return Splits(first(splits.train, 1000), first(splits.validation, 1000), first(splits.test, 2000))
