"""Pictures and labels in the IDX files of MNIST, plain or compressed."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

_UNSIGNED_BYTES = 0x08


def read_idx(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    """The array of a file, which may end in `.gz`.

    Raises:
        ValueError: it is not an IDX file of bytes, or cut short; the message names it.
        OSError: it is not there.
    """
    plain, compressed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else compressed
    content = path.read_bytes() if path == plain else gzip.decompress(path.read_bytes())
    zeros, kind, axes = struct.unpack_from(">HBB", content) if len(content) >= 4 else (1, 0, 0)
    if zeros != 0 or kind != _UNSIGNED_BYTES:
        raise ValueError(f"{path} is no IDX file of bytes")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape)):
        raise ValueError(f"{path} holds {values.size} numbers; its head says {' x '.join(map(str, shape))}")
    return values.reshape(shape)
