"""The directory of a study: one process at a time, finished lines never lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from mtl.files.begun import begun
from mtl.files.config import FILE, Config, read_config
from mtl.files.json_lines import append_line, to_json
from mtl.files.learned import learned_loss_file
from mtl.files.lineage import damaged_events
from mtl.files.records import named_lines, read_records
from mtl.files.whole import write_whole
from mtl.files.yaml_files import write_values
from mtl.study.models import Models, Weights
from mtl.train.outcome import LEARNED

#: From a record to specs by task.
Decided = Callable[[Mapping[str, Any]], Mapping[str, str]]


class RunDirectory:
    """Files of a study in `path`; see the README for what each holds. Use `open_run_directory`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: Mapping[str, str] | None = None
        self.models: Models | None = None  # what becomes of the weights of finished runs; None keeps none
        self.decided: Decided | None = None  # gives the losses that training labels decide, which records have then

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
        return list(read_records(self.results_path).runs.values())

    def finished(self) -> dict[str, dict[str, Any]]:
        """The records of runs that are not to be trained again, by name; one that failed is."""
        return {record["run"]: record for record in self.records() if record["status"] != "failed"}

    def damages(self) -> list[str]:
        """Files and lines that cannot be read, beside a last line that a crash cut short; a sentence each."""
        found = []
        results = read_records(self.results_path)
        if results.damaged:
            named = named_lines(self.results_path, [*results.damaged])
            found.append(f"{named}: no finished run can be read there{results.why}")
        if lines := damaged_events(self.schedule_path):
            found.append(f"{named_lines(self.schedule_path, lines)}: no event can be read there")
        return found

    def append(
        self, record: Mapping[str, Any], history: Mapping[str, Any], weigh: Callable[[], Weights] | None = None
    ) -> dict[str, Any]:
        """Write a finished run: its curves and learned losses first, then its line, which makes it count.

        The checkpoint of one that failed stays, so that it is tried again from there. `weigh` gives the weights, in
        case they are kept.
        """
        record = {**record, "history": f"history/{record['run']}.json"}
        if self._digests is not None:
            record["digests"] = self._digests
        if self.decided is not None and (losses := self.decided(record)):
            record["losses"] = losses
        curves = self.path / record["history"]
        curves.parent.mkdir(exist_ok=True)
        write_whole(curves, to_json({key: value for key, value in history.items() if key != LEARNED}))
        for task, about in history.get(LEARNED, {}).items():
            path = learned_loss_file(self.path, record["run"], task)
            path.parent.mkdir(exist_ok=True)
            write_whole(path, to_json(about) + "\n")
        if self.models is not None and weigh is not None:
            self.models.offer(record, self.records, weigh)
        append_line(self.results_path, record)
        if record["status"] != "failed":
            self.checkpoint(record["run"]).unlink(missing_ok=True)
        return record

    def write_failure(self, name: str, error: BaseException | str) -> Path:
        """Write the traceback of what went wrong in `name`, a run or another part of the study; returns the file.

        `error` is the exception, or its traceback from another process.
        """
        path = self.path / "failures" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        write_whole(path, text)
        return path

    def begun(self) -> bool:
        """Whether there is more than settings."""
        return begun(self.path)

    def forget(self) -> None:
        """Undo `write_config` of a study that could not begin; nothing happens once there is more than its settings."""
        if not self.begun():
            self.config_path.unlink(missing_ok=True)
            shutil.rmtree(self.path / "wandb", ignore_errors=True)

    @property
    def config_path(self) -> Path:
        """The study's settings."""
        return self.path / FILE

    def config(self) -> Config | None:
        """The study's settings, when it was started before.

        Raises:
            ValueError: they cannot be read; the line names the file.
        """
        return read_config(self.path) if self.config_path.exists() else None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Record the resolved settings; every record from now on carries the digests among them."""
        self._digests = config.get("digests")
        write_whole(self.config_path, write_values(config))


def _let_go() -> None:
    for lock in list(_LOCKS):
        lock.close()


# A process that reads data ahead has the lock from the one that it was forked off, and lives on for some seconds where
# that one was killed.
_LOCKS: weakref.WeakSet[FileIO] = weakref.WeakSet()
os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def open_run_directory(path: Path, *, resume: bool) -> Iterator[RunDirectory]:
    """The directory at `path`, made when absent, and locked until the block ends.

    Raises:
        ValueError: it cannot be written, another run uses it, or it holds a run and `resume` is false.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileIO(path / ".lock", "w")
    except OSError as error:
        raise ValueError(f"output directory {str(path)!r} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it however the process ends
        except OSError:
            raise ValueError(f"output directory {str(path)!r} is in use by another run") from None
        _LOCKS.add(lock)
        directory = RunDirectory(path)
        if directory.config_path.exists() and not resume:
            raise ValueError(
                f"output directory {str(path)!r} already holds a run: --resume continues it, --out DIR starts another"
            )
        yield directory
