"""Data that takes long to read or to generate is prepared once, in a file of tensors that later loads open at once.

The file's name holds a digest of what it was made from, so that another version of the source or of our reading of it
is never taken for this one. It is written beside and moved into place, under a lock, so two processes may ask for the
same data at the same time and a crash leaves nothing half.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from mtl.files.whole import replaced

_VARIABLE = "MTL_CACHE"
_PIECE = 1 << 20

#: Told how far a preparation is: (done, of so many).
Progress = Callable[[int, int], None]
_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


def cache_folder() -> Path:
    """Where prepared data is: `MTL_CACHE`, or `mtl` in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    given = os.environ.get(_VARIABLE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtl"


@contextmanager
def watched(progress: Progress) -> Iterator[None]:
    """Within it, `progress` is told of what is prepared."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def told(done: int, total: int) -> None:
    """Tell whoever watches how far a preparation is."""
    progress = _progress.get()
    if progress is not None:
        progress(done, total)


def prepared(name: str, made_from: Sequence[Path | str | int], make: Callable[[], Any]) -> Any:
    """What `make` returns, from the cache where it was made before from the same.

    Args:
        name: of the data.
        made_from: the files it is read from, whose contents count, and words and numbers that decide about it, such as
            the version of the code that reads.
        make: gives tensors and plain values in any nesting.

    Raises:
        OSError: the cache cannot be written; the message names its folder and the variable that moves it.
    """
    path = cache_folder() / f"{name}-{_digest(made_from)}.pt"
    found = _read(path)
    if found is not None:
        return found["data"]
    with _told_of_the_cache(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("wb")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _read(path)  # somebody else may have made it meanwhile
        if found is None:
            found = {"data": make()}  # what goes wrong with the source is not the cache's
            with _told_of_the_cache(path), replaced(path) as file:
                torch.save(found, file)
    return found["data"]


@contextmanager
def _told_of_the_cache(path: Path) -> Iterator[None]:
    """Errors of the disk say that they are the cache's, and how to move it."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"the cache of prepared data cannot be written ({error.strerror}); {_VARIABLE} moves it", path
        ) from error


def _digest(made_from: Sequence[Path | str | int]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for each in made_from:
        if isinstance(each, Path):
            with each.open("rb") as file:
                while piece := file.read(_PIECE):
                    found.update(piece)
        else:
            found.update(f"{each}\n".encode())
    return found.hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    """None where there is no file or it is damaged, and so made anew."""
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at checksums
            if archive.testzip() is not None:
                return None
        loaded = torch.load(path, weights_only=True)
    except (zipfile.BadZipFile, EOFError, RuntimeError, pickle.UnpicklingError):
        return None
    return loaded if isinstance(loaded, dict) and "data" in loaded else None
