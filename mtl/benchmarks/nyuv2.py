"""NYUv2 (Silberman et al., ECCV 2012), as multi-task papers have it since MTAN (Liu, Johns & Davison, CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mtl.benchmarks.dense import dense_tasks
from mtl.benchmarks.dense_folders import DenseFolders


class NYUv2(DenseFolders):
    """Segmentation (13 classes), depth in metres and surface normals of photographs of rooms, 288 x 384.

    Read from MTAN's NumPy files in `nyuv2` of the data folder. Papers test on its `val` and select on nothing else;
    here `val` is the test split, and a tenth of `train`, the ends of eight equal stretches of it, is for validation.
    In training pictures are zoomed and mirrored, as with LibMTL; MTAN itself changes none.
    """

    name: ClassVar[str] = "nyuv2"
    trunk = "segnet"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 200, "batch_size": 2, "lr": 1e-4, "augment": "zoom+flip"}
    classes: ClassVar[int] = 13
    parts: ClassVar[Mapping[str, Sequence[str]]] = {
        "picture": ("image",),
        "segmentation": ("label",),
        "depth": ("depth",),
        "normal": ("normal",),
    }
    tasks = dense_tasks(classes=13)
