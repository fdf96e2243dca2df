"""Cityscapes (Cordts et al., CVPR 2016), as multi-task papers have it since MTAN (Liu, Johns & Davison, CVPR 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mtl.benchmarks.dense import dense_tasks
from mtl.benchmarks.dense_folders import DenseFolders


class Cityscapes(DenseFolders):
    """Segmentation (7 classes) and inverse depth of photographs of streets, 128 x 256.

    Read from MTAN's NumPy files in `cityscapes` of the data folder, labels in `label_7` or `label`. Papers test on its
    `val` and select on nothing else; here `val` is the test split, and a tenth of `train`, the ends of eight equal
    stretches of it, is for validation. Pictures are not changed in training.
    """

    name: ClassVar[str] = "cityscapes"
    trunk = "segnet"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 200, "batch_size": 8, "lr": 1e-4}
    classes: ClassVar[int] = 7
    parts: ClassVar[Mapping[str, Sequence[str]]] = {
        "picture": ("image",),
        "segmentation": ("label_7", "label"),
        "depth": ("depth",),
    }
    tasks = tuple(
        dataclasses.replace(task, geometry="inverse-depth" if task.geometry == "depth" else "")
        for task in dense_tasks(classes=7)
        if task.name != "normal"
    )
