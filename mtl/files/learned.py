"""The losses that runs have learned: a file of a run directory for each run and task, which `--loss` takes."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote


def learned_loss_file(directory: Path, run: str, task: str) -> Path:
    """The file of the loss of a task that a run has learned, whether it has one or not."""
    return directory / "losses" / f"{run}-{quote(task, safe='')}.json"
