"""Checkpoints that are whole or absent, and load without running code."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from mtl.files.whole import replaced


def save(path: Path, content: dict[str, Any], *, keep: bool = False) -> None:
    """Write `content` (tensors and plain values) so that a crash leaves the old file or the new one, never half.

    With `keep` the old file stays beside it, at `previous(path)`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    def keep_old() -> None:
        if keep and path.exists():
            _keep(path)

    with replaced(path, keep_old) as file:
        torch.save(content, file)


def _keep(path: Path) -> None:
    """Give the file a second name, so that at no moment there is none under the first; move it where that cannot be."""
    second = path.with_suffix(".kept")
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:  # not every file system has links
        path.replace(previous(path))
        return
    second.replace(previous(path))
    second.unlink(missing_ok=True)  # it stays where a crash has left both names to the same file


def previous(path: Path) -> Path:
    """Where the checkpoint before that at `path` is kept."""
    return path.with_suffix(".previous")


class Damaged(Exception):
    """There is a checkpoint, and a crash, the disk or somebody has left it unreadable; the text says which."""


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The content of a checkpoint, or None when there is none.

    Raises:
        Damaged: the file is not what `save` wrote.
        OSError, MemoryError, RuntimeError: it may well be, but there is no permission, no memory, no such device.
    """
    if not path.is_file():
        return None
    _check_whole(path)
    try:
        loaded = torch.load(path, map_location=device, weights_only=True)
    except (OSError, MemoryError):
        raise
    except RuntimeError as error:
        if "PytorchStreamReader" not in str(error):  # torch's word for a file that is no archive of its own
            raise
        raise Damaged(f"checkpoint {path} cannot be read") from error
    except Exception as error:  # rubbish that looks like an archive can raise anything
        raise Damaged(f"checkpoint {path} cannot be read") from error
    if not isinstance(loaded, dict):
        raise Damaged(f"checkpoint {path} cannot be read: it holds none")
    return loaded


def _check_whole(path: Path) -> None:
    """Compare the checksums in the file, which torch does not look at: it would load flipped bits without a word."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except MemoryError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a damaged offset in the file leads to
            raise
        bad = path.name
    except Exception:  # the archive's own structure is damaged, which raises nearly anything
        bad = path.name
    if bad is not None:
        raise Damaged(f"checkpoint {path} cannot be read")


def random_state() -> dict[str, Any]:
    """State of torch's global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: dict[str, Any]) -> None:
    """Put torch's global generators back."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
