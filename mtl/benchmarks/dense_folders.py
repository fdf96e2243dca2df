"""Pictures with labels at each pixel, in folders of NumPy files: `{train,val}/{image,label,depth,normal}/0.npy`, ..."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtl.benchmarks.benchmark import Benchmark, MissingData, Splits
from mtl.benchmarks.folders import data_folder
from mtl.losses.labels import IGNORE

_SHIPPED_TRAIN, _SHIPPED_TEST = "train", "val"  # the field reports on `val`
_STRETCHES = 8  # places in the training pictures that the validation split is taken from
_SHARE = 10  # one of so many training pictures is held out
_BRIGHTEST = 2.0  # a picture in [0, 1] may be a little above from resizing; one in [0, 255] is far above
_READERS = 4
_Array = npt.NDArray[Any]


class DenseFolders(Benchmark):
    """Tasks at each pixel of pictures on a disk, which are read as they are needed.

    Class attributes:
        parts: by task, and for `picture`, the names that its folder may have.
        classes: that a pixel may have.
    """

    parts: ClassVar[Mapping[str, Sequence[str]]]
    classes: ClassVar[int]
    workers: int = min(_READERS, len(os.sched_getaffinity(0)))

    def files(self) -> Sequence[Path]:
        folder = data_folder(self.name, f"{_SHIPPED_TRAIN}/{self.parts['picture'][0]}")
        return [path for split in (_SHIPPED_TRAIN, _SHIPPED_TEST) for path in self._folders(folder / split).values()]

    def load(self) -> Splits:
        folder = self.files()[0].parents[1]
        train, test = (self._folders(folder / split) for split in (_SHIPPED_TRAIN, _SHIPPED_TEST))
        numbers = _numbers(self.name, train)
        kept, held = held_out(len(numbers))
        return Splits(
            DensePictures(train, [numbers[place] for place in kept], self.classes),
            DensePictures(train, [numbers[place] for place in held], self.classes),
            DensePictures(test, _numbers(self.name, test), self.classes),
            workers=self.workers,
        )

    def _folders(self, split: Path) -> dict[str, Path]:
        return {part: self._folder(split, names) for part, names in self.parts.items()}

    def _folder(self, split: Path, names: Sequence[str]) -> Path:
        for name in names:
            if (split / name).is_dir():
                return split / name
        raise MissingData(f"benchmark {self.name} reads {' or '.join(names)} in {split}, which is not there")


def held_out(count: int) -> tuple[list[int], list[int]]:
    """Places of the pictures that are trained on, and of those for validation: the ends of eight equal stretches.

    Pictures that follow each other often show one place, so that single ones between them would be seen nearly whole.
    """
    kept: list[int] = []
    held: list[int] = []
    for stretch in np.array_split(np.arange(count), max(1, min(_STRETCHES, count // 2))):
        cut = len(stretch) - max(1, round(len(stretch) / _SHARE))
        kept += stretch[:cut].tolist()
        held += stretch[cut:].tolist()
    return kept, held


def _numbers(name: str, folders: Mapping[str, Path]) -> list[int]:
    """The numbers of the examples of a split, which all of its folders must have."""
    found = {
        folder: {int(path.stem) for path in folder.glob("*.npy") if path.stem.isdecimal()}
        for folder in folders.values()
    }
    every = set().union(*found.values())
    for folder, there in found.items():
        lacking = sorted(every - there) if every else [0]
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise MissingData(f"benchmark {name} reads {folder / f'{lacking[0]}.npy'}{more}, which is not there")
    return sorted(every)


@dataclass(frozen=True)
class DensePictures(Dataset[Any]):
    """Reads a picture (3, H, W) and its labels: segmentation (H, W), depth (H, W), normal (H, W, 3), where there are.

    Missing are classes of -1, depths that are not above zero, and normals of length zero.

    Args:
        folders: by task, and of `picture`.
        numbers: of the examples, the names of their files.
        classes: that a pixel may have.

    Raises:
        ValueError: a file holds no array, or not what its folder is for.
    """

    folders: Mapping[str, Path]
    numbers: Sequence[int]
    classes: int

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        path = self._path("picture", index)
        picture, targets = _picture(path), self.target(index)
        for task, target in targets.items():
            if target.shape[:2] != picture.shape[1:]:
                raise ValueError(
                    f"{self._path(task, index)} has {_sides(target.shape)} pixels, {path} {_sides(picture.shape[1:])}"
                )
        return picture, targets

    def target(self, index: int) -> dict[str, Tensor]:
        """The labels of an example alone."""
        found = {}
        for task in self.folders:
            path = self._path(task, index)
            if task == "segmentation":
                found[task] = _classes(path, self.classes)
            elif task == "depth":
                found[task] = _depth(path)
            elif task == "normal":
                found[task] = _normal(path)
        return found

    def _path(self, part: str, index: int) -> Path:
        return self.folders[part] / f"{self.numbers[index]}.npy"


def _read(path: Path, colours: int) -> _Array:
    """An array (H, W, colours); one without the last axis is one of a single colour."""
    try:
        array: _Array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} holds no NumPy array: {error}") from error
    if array.ndim == 2 and colours == 1:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] != colours:
        raise ValueError(f"{path} has shape {array.shape}; (H, W, {colours}) is wanted")
    return array


def _picture(path: Path) -> Tensor:
    array = _read(path, 3)
    values = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    if not (values.min() >= -1 and values.max() <= _BRIGHTEST):
        raise ValueError(
            f"{path} has numbers from {values.min():g} to {values.max():g}; bytes, or numbers from 0 to 1, are wanted"
        )
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))


def _classes(path: Path, count: int) -> Tensor:
    array = _read(path, 1)[..., 0]
    wrong = array[~np.isin(array, np.arange(-1, count))]
    if len(wrong):
        raise ValueError(f"{path} has class {wrong[0]:g}; 0 to {count - 1} are wanted, or -1 where it is missing")
    classes = array.astype(np.int64)
    return torch.from_numpy(np.where(classes == -1, IGNORE, classes))


def _depth(path: Path) -> Tensor:
    depth = _read(path, 1)[..., 0].astype(np.float32)
    return torch.from_numpy(np.where(depth > 0, depth, np.float32(np.nan)))


def _normal(path: Path) -> Tensor:
    normal = _read(path, 3).astype(np.float32)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return torch.from_numpy(np.where(length > 0, normal, np.float32(np.nan)))


def _sides(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
