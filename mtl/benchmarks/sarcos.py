"""SARCOS (Vijayakumar & Schaal, ICML 2000): the torques of a robot's arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from mtl.benchmarks.benchmark import Benchmark, MissingData, Split, Splits, Task
from mtl.benchmarks.folders import data_folder
from mtl.benchmarks.shuffled import shuffled_parts, standardised
from mtl.losses import MSE
from mtl.metrics import r2, rmse

_JOINTS = 7
_INPUTS = 3 * _JOINTS  # positions, velocities and accelerations
_FILES = ("sarcos_inv", "sarcos_inv_test")


class Sarcos(Benchmark):
    """Seven regressions: the torque at each joint of an arm, from positions, velocities and accelerations of all.

    Read from `sarcos_inv.mat` and `sarcos_inv_test.mat` in `sarcos` of the data folder. Rows of the first that stand in
    the second too are left out, so that no test example is trained on; papers that keep them report lower errors. There
    is no validation split: a tenth of the other rows is drawn for it, once and for all. Inputs and targets are
    standardised by the training split.
    """

    name: ClassVar[str] = "sarcos"
    trunk = "mlp:width=256"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 50, "batch_size": 256, "lr": 1e-3}
    tasks = tuple(Task(f"torque{joint}", MSE(), (rmse, r2)) for joint in range(1, _JOINTS + 1))

    def files(self) -> Sequence[Path]:
        folder = data_folder(self.name, *(f"{name}.mat" for name in _FILES))
        paths = [folder / f"{name}.mat" for name in _FILES]
        for path in paths:
            if not path.is_file():
                raise MissingData(f"benchmark {self.name} reads {path}, which is not there")
        return paths

    def load(self) -> Splits:
        shipped, test = (_table(path, name) for path, name in zip(self.files(), _FILES, strict=True))
        seen = {row.tobytes() for row in test}
        shipped = shipped[[row.tobytes() not in seen for row in shipped]]
        if len(shipped) < 2:
            raise ValueError(f"all but {len(shipped)} rows of {_FILES[0]}.mat stand in {_FILES[1]}.mat too")
        validation, train = shuffled_parts(len(shipped), 0.1)
        rows = torch.from_numpy(np.concatenate([shipped, test]))
        table = standardised(rows, train).float()
        parts = (train, validation, torch.arange(len(shipped), len(table)))
        return Splits(
            *(
                Split(table[part, :_INPUTS], {task.name: table[part, _INPUTS + k] for k, task in enumerate(self.tasks)})
                for part in parts
            )
        )


def _table(path: Path, name: str) -> npt.NDArray[np.float64]:
    """The array (N, 28) of that name in a file of MATLAB."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (ValueError, NotImplementedError, MatReadError) as error:
        raise ValueError(f"{path} is no MATLAB file that SciPy reads: {error}") from error
    table = content.get(name)
    if table is None or table.ndim != 2 or table.shape[1] != _INPUTS + _JOINTS:
        shown = "nothing" if table is None else f"shape {table.shape}"
        raise ValueError(f"{path} has {shown} as {name!r}; (N, {_INPUTS + _JOINTS}) is wanted")
    return np.ascontiguousarray(table, dtype=np.float64)
