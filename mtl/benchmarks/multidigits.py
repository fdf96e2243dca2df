"""Two handwritten digits in one picture, after MultiMNIST (Sabour et al. 2017; Sener & Koltun 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.losses import MSE, CrossEntropy
from mtl.metrics import accuracy, mae, r2

_SIZES = {"train": 6000, "validation": 1500, "test": 1500}
_CANVAS, _SHIFT = 12, 4  # an 8 x 8 digit at the top left, one at the bottom right, half of each overlapping
_SEED = 0


class MultiDigits(Benchmark):
    """Left digit, right digit (ten classes each) and their difference (a regression), from one 12 x 12 picture.

    The 1,797 digits that scikit-learn ships are split 50/20/30 first, and pairs are drawn within a split only, so that
    no test digit was ever seen. Pixels are the maximum of the two, in [0, 1].
    """

    name: ClassVar[str] = "multidigits"
    trunk = "mlp:width=128"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 20, "batch_size": 128, "lr": 1e-3}
    tasks = (
        Task("left", CrossEntropy(), (accuracy,), 10),
        Task("right", CrossEntropy(), (accuracy,), 10),
        Task("difference", MSE(), (mae, r2)),
    )

    def load(self) -> Splits:
        from sklearn.datasets import load_digits  # takes more than a second to import
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        pictures, labels = digits.images.astype(np.float32) / 16, digits.target
        train, rest = train_test_split(np.arange(len(labels)), train_size=0.5, stratify=labels, random_state=_SEED)
        validation, test = train_test_split(rest, train_size=0.4, stratify=labels[rest], random_state=_SEED)
        pools = {"train": train, "validation": validation, "test": test}
        made = {}
        for stream, (name, pool) in enumerate(pools.items()):
            rng = np.random.default_rng([_SEED, stream])
            left, right = rng.choice(pool, (2, _SIZES[name]))
            made[name] = _overlay(pictures, left, right), labels[left], labels[right]
        scale = float((made["train"][1] - made["train"][2]).std())
        return Splits(**{name: _split(*arrays, scale) for name, arrays in made.items()})


def _overlay(pictures: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    canvas = np.zeros((2, len(left), _CANVAS, _CANVAS), np.float32)
    canvas[0, :, : _CANVAS - _SHIFT, : _CANVAS - _SHIFT] = pictures[left]
    canvas[1, :, _SHIFT:, _SHIFT:] = pictures[right]
    combined: np.ndarray = canvas.max(0)[:, None]
    return combined


def _split(pictures: np.ndarray, left: np.ndarray, right: np.ndarray, scale: float) -> Split:
    difference = torch.from_numpy((left - right) / scale).float()
    targets = {"left": torch.from_numpy(left), "right": torch.from_numpy(right), "difference": difference}
    return Split(torch.from_numpy(pictures), targets)
