"""The directory of a study: one process at a time, finished lines never lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtl.yaml_files import read_values, write_values


class RunDirectory:
    """Files of a study in `path`; see the README for what each holds. Use `open_run_directory`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def results_path(self) -> Path:
        """One finished run a line."""
        return self.path / "results.jsonl"

    @property
    def schedule_path(self) -> Path:
        """Of a search: who began, and who took over whom, an event a line."""
        return self.path / "schedule.jsonl"

    def checkpoint(self, run: str) -> Path:
        """Where a run in progress keeps its checkpoint."""
        return self.path / "checkpoints" / f"{run}.pt"

    def records(self) -> list[dict[str, Any]]:
        """The finished runs; of several lines of one run the last, and no line that a crash cut short."""
        found: dict[str, dict[str, Any]] = {}
        if self.results_path.exists():
            for line in self.results_path.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    record = json.loads(line)
                    found[record["run"]] = record
        return list(found.values())

    def append(self, record: Mapping[str, Any], history: Mapping[str, Any]) -> dict[str, Any]:
        """Write a finished run: its curves first, then its line, which makes it count."""
        record = {**record, "history": f"history/{record['run']}.json"}
        curves = self.path / record["history"]
        curves.parent.mkdir(exist_ok=True)
        curves.write_text(json.dumps(_finite(history)))
        line = json.dumps(_finite(record)) + "\n"
        with self.results_path.open("ab+") as file:
            _drop_unfinished_line(file)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.checkpoint(record["run"]).unlink(missing_ok=True)
        return record

    def forget(self) -> None:
        """Undo `write_config` of a study that could not begin; nothing happens once there is more than its settings."""
        if not any(path.exists() for path in (self.results_path, self.schedule_path, self.path / "checkpoints")):
            (self.path / "config.yaml").unlink(missing_ok=True)
            shutil.rmtree(self.path / "wandb", ignore_errors=True)

    def config(self) -> dict[str, Any] | None:
        """The study's settings, when it was started before."""
        path = self.path / "config.yaml"
        return read_values(path) if path.exists() else None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Record the resolved settings."""
        partial = self.path / "config.yaml.partial"
        partial.write_text(write_values(config), encoding="utf-8")
        partial.replace(self.path / "config.yaml")


@contextlib.contextmanager
def open_run_directory(path: Path, *, resume: bool) -> Iterator[RunDirectory]:
    """The directory at `path`, made when absent, and locked until the block ends.

    Raises:
        ValueError: it cannot be written, another run uses it, or it holds results and `resume` is false.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"output directory {str(path)!r} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it however the process ends
        except OSError:
            raise ValueError(f"output directory {str(path)!r} is in use by another run") from None
        directory = RunDirectory(path)
        if directory.config() is not None and not resume:
            raise ValueError(
                f"output directory {str(path)!r} already holds a run: --resume continues it, --out DIR starts another"
            )
        yield directory


def _drop_unfinished_line(file: Any) -> None:
    """Cut off what a crash left after the last whole line."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(0)
    whole = file.read().rfind(b"\n") + 1
    if whole != size:
        file.truncate(whole)
        file.seek(0, os.SEEK_END)


def _finite(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
