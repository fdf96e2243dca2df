"""Files that are whole or absent: a crash leaves the old one or the new one, never half."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While a file is written: errors of the disk name it, which those of `write` and `fsync` do not.

    Raises:
        OSError: with a file's name; also where `torch.save` had one and ended with another error of its own.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
    except RuntimeError as error:
        cause = error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


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
        with writing(path), partial.open("wb") as file:
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
