"""Files of a run directory that `--loss` takes: losses that runs have learned, and those that a search found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote


def learned_loss_file(directory: Path, run: str, task: str) -> Path:
    """The file of the loss of a task that a run has learned, whether it has one or not."""
    return directory / "losses" / f"{run}-{quote(task, safe='')}.json"


def found_loss_file(directory: Path, task: str) -> Path:
    """The file of the loss of a task that a search found, whether it has one or not."""
    return directory / "losses" / "found" / f"{quote(task, safe='')}.json"


def read_loss_file(path: Path, what: str) -> Any:
    """The content of such a file.

    Raises:
        ValueError: it cannot be read; one line that begins with `what`.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise ValueError(f"{what} cannot be read: {reason}") from error
