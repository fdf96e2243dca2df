"""Files of a run directory that `--loss` takes: losses that runs have learned, and those that a search found."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote


def learned_loss_file(directory: Path, run: str, task: str) -> Path:
    """The file of the loss of a task that a run has learned, whether it has one or not."""
    return directory / "losses" / f"{run}-{quote(task, safe='')}.json"


def found_loss_file(directory: Path, task: str) -> Path:
    """The file of the loss of a task that a search found, whether it has one or not."""
    return directory / "losses" / "found" / f"{quote(task, safe='')}.json"
