"""Synthetic rooms: what is at each pixel, how far away, and how is it turned?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Benchmark, Split, Splits
from mtl.benchmarks.cache import prepared, told
from mtl.benchmarks.dense import dense_tasks
from mtl.benchmarks.raycast import CLASSES, view

_SIZES = {"train": 1200, "validation": 200, "test": 300}
_SIDE = 64
_SEED = 0
_DRAWN_BY = 1  # goes up when the ray caster draws something else


class Scenes(Benchmark):
    """Segmentation (7 classes), depth and surface normals of 1,700 computed pictures of rooms, 64 x 64.

    The pictures are generated, not photographs: no result here is one on NYUv2, whose tasks, metrics and file layout
    they share. Each is drawn from a seed of its own, so they are the same everywhere. Depth is in metres.
    """

    name: ClassVar[str] = "scenes"
    trunk = "unet"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 10, "batch_size": 16, "lr": 1e-3}
    tasks = dense_tasks(classes=len(CLASSES))

    def load(self) -> Splits:
        made = prepared(self.name, [_DRAWN_BY, _SIDE, *_SIZES.values()], _drawn)
        return Splits(**{name: _split(parts) for name, parts in made.items()})


def _drawn() -> dict[str, dict[str, Tensor]]:
    """Views by split; pictures as bytes, which is what a photograph would have."""
    found, done = {}, 0
    for name, count in _SIZES.items():
        views = []
        for _ in range(count):
            views.append(view(np.random.default_rng([_SEED, done]), _SIDE, _SIDE))
            done += 1
            told(done, sum(_SIZES.values()))
        pictures = np.stack([each.picture for each in views])
        found[name] = {
            "picture": torch.from_numpy(np.rint(pictures * 255).astype(np.uint8)),
            "segmentation": torch.from_numpy(np.stack([each.classes for each in views]).astype(np.uint8)),
            "depth": torch.from_numpy(np.stack([each.depth for each in views])),
            "normal": torch.from_numpy(np.stack([each.normal for each in views])),
        }
    return found


def _split(parts: Mapping[str, Tensor]) -> Split:
    targets = {
        "segmentation": parts["segmentation"].long(),
        "depth": parts["depth"][:, 0],
        "normal": parts["normal"].movedim(1, -1),
    }
    return Split(parts["picture"].float() / 255, targets)
