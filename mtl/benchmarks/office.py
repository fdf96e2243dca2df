"""Office-31 (Saenko et al., ECCV 2010) and Office-Home (Venkateswara et al., CVPR 2017): a task for each domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtl.benchmarks.benchmark import Benchmark, MissingData, Splits, Task
from mtl.benchmarks.folders import data_folder
from mtl.benchmarks.photographs import need_pillow, photograph
from mtl.losses import make_loss
from mtl.metrics import accuracy

_PARTS = ("train", "val", "test")
_SHARES = (0.6, 0.2)  # of the pictures of a class, where no lists say which are for what; the rest is the test
_ENDINGS = (".jpg", ".jpeg", ".png")
_SIDE = 224
#: Mean and standard deviation of the colours of ImageNet, for which pretrained encoders are made.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _domains(names: Sequence[str], classes: int) -> tuple[Task, ...]:
    return tuple(Task(name, make_loss("cross-entropy"), (accuracy,), classes) for name in names)


class Office(Benchmark):
    """What is on a photograph: 31 things of offices, in three domains that are a task each, with pictures of its own.

    Read from `office-31` of the data folder: the pictures in their authors' folders, and for each domain and split a
    list of lines `PATH CLASS`, such as `amazon_train.txt`, as LibMTL has them. Without lists, 60, 20 and 20 % of the
    pictures of each class are drawn once for all, and classes are numbered in the order of their names.

    Class attributes:
        folder: within the data folder.
        inside: folders between that of a domain and those of its classes.
        side: of the pictures, in pixels.
    """

    name: ClassVar[str] = "office"
    folder: ClassVar[str] = "office-31"
    inside: ClassVar[str] = "images"
    side: ClassVar[int] = _SIDE
    workers: int = 1  # for each task
    trunk = "resnet18"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 100, "batch_size": 64, "lr": 1e-4, "weight_decay": 1e-5}
    tasks = _domains(("amazon", "dslr", "webcam"), classes=31)

    def files(self) -> Sequence[Path]:
        need_pillow(self.name)
        folder = data_folder(self.folder, self.tasks[0].name)
        return [_domain(self.name, folder, task.name) for task in self.tasks] + _lists(self.name, folder, self.tasks)

    def load(self) -> Splits:
        files = self.files()
        domains, lists = files[: len(self.tasks)], files[len(self.tasks) :]
        parts: list[dict[str, Photographs]] = [{} for _ in _PARTS]
        for task, domain in zip(self.tasks, domains, strict=True):
            if lists:
                here = [path for path in lists if path.name in {f"{task.name}_{part}.txt" for part in _PARTS}]
                every = [_listed(path, domain, task.outputs) for path in here]
            else:
                every = _drawn(self.name, domain / self.inside, task.outputs)
            for part, found in zip(parts, every, strict=True):
                paths, labels = [path for path, _ in found], torch.tensor([label for _, label in found])
                part[task.name] = Photographs(paths, labels, self.side)
        return Splits(*parts, workers=self.workers)


class OfficeHome(Office):
    """What is on a picture: 65 things of offices and homes, in four domains that are a task each.

    As `Office`, from `office-home` of the data folder.
    """

    name: ClassVar[str] = "office-home"
    folder: ClassVar[str] = "office-home"
    inside: ClassVar[str] = ""
    tasks = _domains(("Art", "Clipart", "Product", "Real_World"), classes=65)


def _domain(name: str, folder: Path, task: str) -> Path:
    """The folder of a domain; the authors' `Real World` may have lost its space."""
    for place in (folder / task, folder / task.replace("_", " ")):
        if place.is_dir():
            return place
    raise MissingData(f"benchmark {name} reads {folder / task}, which is not there")


def _lists(name: str, folder: Path, tasks: Sequence[Task]) -> list[Path]:
    """The lists of all domains and splits; none, or all must be there."""
    paths = [folder / f"{task.name}_{part}.txt" for task in tasks for part in _PARTS]
    lacking = [path for path in paths if not path.is_file()]
    if len(lacking) == len(paths):
        return []
    if lacking:
        raise MissingData(f"benchmark {name} reads {lacking[0]}, which is not there, and other lists are")
    return paths


def _listed(path: Path, domain: Path, classes: int) -> list[tuple[Path, int]]:
    """The pictures of a list, whose paths begin with the domain, and their classes."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        place, _, label = line.strip().rpartition(" ")
        if not (place and label.isdecimal() and int(label) < classes):
            raise ValueError(
                f"{path}, line {number}: {line!r}; a picture and a class from 0 to {classes - 1} are wanted"
            )
        picture = domain.joinpath(*Path(place).parts[1:])
        if not picture.is_file():
            raise MissingData(f"{path}, line {number}: {picture} is not there")
        found.append((picture, int(label)))
    return found


def _drawn(name: str, folder: Path, classes: int) -> list[list[tuple[Path, int]]]:
    """All pictures of a domain in three parts, of each class the same shares."""
    if not folder.is_dir():
        raise MissingData(f"benchmark {name} reads {folder}, which is not there")
    kinds = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(kinds) != classes:
        raise ValueError(f"{folder} has {len(kinds)} folders of classes; {classes} are wanted")
    parts: list[list[tuple[Path, int]]] = [[] for _ in _PARTS]
    for label, kind in enumerate(kinds):
        pictures = sorted(path for path in kind.iterdir() if path.suffix.lower() in _ENDINGS)
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(label)).tolist()
        ends = [0, *(round(sum(_SHARES[:count]) * len(order)) for count in (1, 2)), len(order)]
        for number, part in enumerate(parts):
            part += [(pictures[place], label) for place in sorted(order[ends[number] : ends[number + 1]])]
    return parts


@dataclass(frozen=True, eq=False)
class Photographs(Dataset[Any]):
    """Reads a picture (3, side, side), its colours standardised as those of ImageNet, and its class.

    Args:
        paths: of the pictures.
        labels: their classes (N,).
        side: in pixels.

    Raises:
        OSError: a file is not there or holds no picture.
    """

    paths: Sequence[Path]
    labels: Tensor
    side: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        return (photograph(self.paths[index], self.side) - mean) / deviation, self.target(index)

    def target(self, index: int) -> Tensor:
        """The class of a picture alone."""
        return self.labels[index]
