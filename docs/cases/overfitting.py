"""A hundred pictures of digits: far fewer examples than parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.benchmarks.shuffled import shuffled_parts
from mtl.losses import make_loss
from mtl.metrics import accuracy, log_loss


class Digits(Benchmark):
    """Handwritten digits of 8 x 8 pixels, of scikit-learn: 100 to learn from, 300 to select by, 1,397 to test with."""

    name = "digits"
    trunk = "mlp:width=128"
    recipe: ClassVar[Mapping[str, Any]] = {"steps": 400, "batch_size": 50, "lr": 3e-3, "optimizer": "adamw"}
    tasks = (Task("digit", make_loss("cross-entropy"), (log_loss, accuracy), outputs=10),)

    def load(self) -> Splits:
        pictures, digits = load_digits(return_X_y=True)
        inputs, labels = torch.from_numpy(pictures).float() / 8 - 1, torch.from_numpy(digits).long()
        parts = shuffled_parts(len(labels), 100.5 / len(labels), 300.5 / len(labels))
        return Splits(*(Split(inputs[part], {"digit": labels[part]}) for part in parts))
