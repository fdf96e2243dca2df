"""What is at each pixel? Classes of a picture, a few of them small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mtl.benchmarks import Benchmark, Split, Splits, Task, find_benchmark
from mtl.losses import make_loss
from mtl.metrics import mean_iou, pixel_accuracy


class Rooms(Benchmark):
    """The segmentation of `scenes` alone, at half its size (32 x 32) and on 300 of its pictures."""

    name = "rooms"
    trunk = "unet:width=8,depth=2"
    recipe: ClassVar[Mapping[str, Any]] = {"steps": 200, "batch_size": 16, "lr": 3e-3}
    tasks = (Task("segmentation", make_loss("cross-entropy"), (mean_iou, pixel_accuracy), outputs=7),)

    def load(self) -> Splits:
        scenes = find_benchmark("scenes").load()

        def small(split: Split, number: int) -> Split:
            labels = split.targets["segmentation"][:number, ::2, ::2]
            return Split(split.inputs[:number, :, ::2, ::2], {"segmentation": labels})

        return Splits(small(scenes.train, 300), small(scenes.validation, 100), small(scenes.test, 300))
