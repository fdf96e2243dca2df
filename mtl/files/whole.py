"""Files that are whole or absent: a crash leaves the old one or the new one, never half."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replaced(path: Path, before: Callable[[], None] = lambda: None) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of the one at `path` when the disk has all of it.

    Args:
        path: in a folder that is there.
        before: called just before the old file is replaced.

    Raises:
        OSError: it cannot be written; the old file is intact.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        before()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file that way, in UTF-8; a file's name in it that is no UTF-8 becomes the bytes that it is."""
    with replaced(path) as file:
        file.write(text.encode(errors="surrogateescape"))
