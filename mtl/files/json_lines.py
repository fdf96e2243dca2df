"""Files of JSON, a value a line, that grow line by line; a damaged line costs that line and nothing else."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from mtl.files.whole import writing


class Line(NamedTuple):
    """A line that holds a value, and its number, from 1."""

    number: int
    value: Any


class Lines(NamedTuple):
    """What a file holds.

    Attributes:
        whole: the lines that can be read.
        damaged: numbers of those that cannot.
        cut: number of a last line that a crash cut short; None when there is none.
    """

    whole: list[Line]
    damaged: list[int]
    cut: int | None


def read_lines(path: Path) -> Lines:
    """The lines of a file that need not exist; empty ones do not count.

    Raises:
        OSError: it is there and cannot be read.
    """
    found = Lines([], [], None)
    content = path.read_bytes() if path.exists() else b""
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.whole.append(Line(number, json.loads(line.decode())))
        except ValueError:  # of the text or of its encoding
            if number == len(lines):  # the newline is missing
                return found._replace(cut=number)
            found.damaged.append(number)
    return found


def append_line(path: Path, value: Any) -> None:
    """Write a value behind those that are there, and wait until the disk has it.

    Raises:
        OSError: it cannot be written; what was there before is intact.
    """
    with writing(path), path.open("ab+") as file:
        _end_last_line(file)
        file.write(f"{to_json(value)}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _end_last_line(file: IO[bytes]) -> None:
    """Give a whole last line the newline that it lacks, and cut off one that a crash left half."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    content = file.read()
    start = content.rfind(b"\n") + 1
    try:
        json.loads(content[start:].decode())
    except ValueError:
        file.truncate(start)
        file.seek(0, os.SEEK_END)
    else:
        file.write(b"\n")


def to_json(value: Any) -> str:
    """As JSON, which has no NaN: numbers that are not finite become null."""
    return json.dumps(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
