"""Photographs in files, read as tensors."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl.benchmarks.benchmark import MissingData
from mtl.extras import install


def need_pillow(benchmark: str) -> None:
    """Raise `MissingData` where what reads photographs is not installed."""
    if importlib.util.find_spec("PIL") is None:
        raise MissingData(f"benchmark {benchmark} reads pictures with Pillow, which is not there: {install('data')}")


def photograph(path: Path, side: int) -> Tensor:
    """A photograph (3, side, side), colours in [0, 1].

    Raises:
        OSError: the file is not there or holds no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    except OSError as error:
        raise OSError(f"{path}: {error}") from error
    values = np.asarray(small, dtype=np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))
