"""Reads what W&B wrote offline, with W&B's own reader."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass
class File:
    """One `.wandb` file: the run as W&B was told of it, its rows by step, its summary, its exit code."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit: int | None = None

    def media(self, key: str) -> Path:
        """The file of a table or an image, which has to be there."""
        path = self.path / "files" / self.summary[f"{key}.path"]
        assert path.is_file()
        return path


def read_files(study: Path) -> dict[str, list[File]]:
    """The files of each run by the run's name, oldest first."""
    found = defaultdict(list)
    for path in sorted((study / "wandb").glob("offline-run-*")):
        file = read_file(path)
        found[file.about["display_name"]].append(file)
    return dict(found)


def read_file(path: Path) -> File:
    """Read the directory of one file."""
    # What `wandb leet inspect --json` runs in its turn, without the second that its own imports take.
    core = Path(find_spec("wandb").origin).parent / "bin" / "wandb-core"
    [log] = path.glob("run-*.wandb")
    command = [core, "leet", "inspect", "--no-observability", "--json", "--run-file", log, path.parent]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    read = File(path)
    for line in shown.splitlines():
        record = json.loads(line)
        content = record.get(record["type"], {})
        if record["type"] == "run":
            read.about = content
        elif record["type"] == "history":
            read.rows[content.get("step", {}).get("num", 0)] = content["item"]
        elif record["type"] == "summary":
            read.summary |= content.get("update", {})
        elif record["type"] == "exit":
            read.exit = content.get("exit_code", 0)
    return read
