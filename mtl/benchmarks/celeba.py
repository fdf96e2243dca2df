"""CelebA (Liu et al., ICCV 2015): forty attributes of a face."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtl.benchmarks.benchmark import Benchmark, MissingData, Splits, Task
from mtl.benchmarks.folders import data_folder
from mtl.benchmarks.photographs import need_pillow, photograph
from mtl.losses import make_loss
from mtl.metrics import auc, binary_accuracy

_PARTITION, _ATTRIBUTES, _PICTURES = "Eval/list_eval_partition.txt", "Anno/list_attr_celeba.txt", "Img/img_align_celeba"
_SIDE = 64
_READERS = 4
_VALUES = {"1": 1.0, "-1": 0.0}
#: In the order of the file.
_NAMES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)


class CelebA(Benchmark):
    """Forty binary attributes of photographs of faces, which are read as they are needed, at 64 x 64.

    Read from `celeba` of the data folder: `Eval/list_eval_partition.txt`, `Anno/list_attr_celeba.txt` and
    `Img/img_align_celeba`, as its authors ship them, in their three splits.
    """

    name: ClassVar[str] = "celeba"
    trunk = "resnet18"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 15, "batch_size": 256, "lr": 3e-4}
    workers: int = min(_READERS, len(os.sched_getaffinity(0)))
    tasks = tuple(Task(name.lower(), make_loss("binary-cross-entropy"), (binary_accuracy, auc)) for name in _NAMES)

    def files(self) -> Sequence[Path]:
        folder = data_folder(self.name, _PARTITION)
        for path in (_ATTRIBUTES, _PICTURES):
            if not (folder / path).exists():
                raise MissingData(f"benchmark {self.name} reads {folder / path}, which is not there")
        need_pillow(self.name)
        return [folder / path for path in (_PARTITION, _ATTRIBUTES, _PICTURES)]

    def load(self) -> Splits:
        partition, attributes, pictures = self.files()
        labels = _labels(attributes)
        there = {entry.name for entry in os.scandir(pictures)}
        names: dict[str, list[str]] = {"0": [], "1": [], "2": []}
        for number, line in enumerate(partition.read_text(encoding="utf-8").splitlines(), 1):
            words = line.split()
            if not words:
                continue
            if len(words) != 2 or words[1] not in names:
                raise ValueError(f"{partition}, line {number}: {line!r}; a file and 0, 1 or 2 are wanted")
            if words[0] not in labels:
                raise ValueError(f"{attributes} has no line for {words[0]}, which {partition} names")
            if words[0] not in there:
                raise MissingData(f"benchmark {self.name} reads {pictures / words[0]}, which is not there")
            names[words[1]].append(words[0])
        parts = (
            Faces(pictures, found, torch.from_numpy(np.array([labels[name] for name in found], np.float32)))
            for found in names.values()
        )
        return Splits(*parts, workers=self.workers)


def _labels(path: Path) -> dict[str, list[float]]:
    """The attributes of each picture, 0 or 1, behind a line with their number and one with their names."""
    _, head, *lines = path.read_text(encoding="utf-8").splitlines() + [""] * 2
    if tuple(head.split()) != _NAMES:
        raise ValueError(f"{path}, line 2: the names of the {len(_NAMES)} attributes of CelebA are wanted")
    found = {}
    for number, line in enumerate(lines, 3):
        name, *values = line.split() or [""]
        if not name:
            continue
        if len(values) != len(_NAMES) or not _VALUES.keys() >= {*values}:
            raise ValueError(f"{path}, line {number}: a file and {len(_NAMES)} times 1 or -1 are wanted")
        found[name] = [_VALUES[value] for value in values]
    return found


@dataclass(frozen=True, eq=False)
class Faces(Dataset[Any]):
    """Reads a picture (3, 64, 64), colours in [0, 1], and its attributes.

    Args:
        folder: of the pictures.
        names: of their files.
        labels: their attributes (N, 40), 0 or 1.

    Raises:
        OSError: a file is not there or holds no picture.
    """

    folder: Path
    names: Sequence[str]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return photograph(self.folder / self.names[index], _SIDE), self.target(index)

    def target(self, index: int) -> dict[str, Tensor]:
        """The attributes of a face alone."""
        return {name.lower(): label for name, label in zip(_NAMES, self.labels[index].unbind(), strict=True)}
