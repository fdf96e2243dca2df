"""Data sets that users have on disk, in the folders that their authors give them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mtl.benchmarks.benchmark import MissingData

_VARIABLE = "MTL_DATA"


def data_folder(name: str, *wanted: str, others: Sequence[Path] = ()) -> Path:
    """The folder of a data set: `$MTL_DATA/NAME`, else `data/NAME` in the working directory, else one of `others`.

    Args:
        name: of the data set and its folder.
        wanted: paths of which one must be in it; looked for, and told in the message.
        others: places where a system's package puts it.

    Raises:
        MissingData: no such folder, or not this in it.
    """
    places = [Path(os.environ[_VARIABLE]) / name] if os.environ.get(_VARIABLE) else []
    places += [Path("data") / name, *others]
    for place in places:
        if any((place / path).exists() for path in wanted):
            return place
    listed = ", ".join(map(str, places))
    raise MissingData(
        f"benchmark {name} reads {' or '.join(wanted)} in one of these folders, which is not there: {listed} "
        f"({_VARIABLE} names the folder above it)"
    )
