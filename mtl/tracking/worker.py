"""The logging process: reads what is to be logged from a file and gives it to W&B. The only importer of wandb.

It imports nothing of this package, and ends when it is told to, or when the study is gone and all is read.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb

_REACHABLE_SECONDS = 5.0
_INIT_SECONDS = 20.0
_POLL_SECONDS = 0.05
_RESTARTS = 2
_INTERRUPTED = 75  # as `mtl` itself: to be continued


class OpenRuns:
    """The W&B runs that are open.

    Args:
        mode: `offline` or `online`.
        folder: the folder `wandb/` of the study.
    """

    def __init__(self, mode: str, folder: Path) -> None:
        self.mode, self._folder = mode, folder
        self.ended: set[str] = set()
        self._open: dict[str, Any] = {}
        self._last: dict[str, int] = {}

    def handle(self, message: dict[str, Any]) -> None:
        """Do what a message asks for a run. A run that has ended stays so."""
        name, kind = message["run"], message["kind"]
        if name in self.ended:
            return
        if kind == "begin":
            self._begin(name, message)
            return
        run = self._open[name]
        if kind == "row":
            self._log(name, message["step"], message["values"])
        elif kind == "table":
            table = wandb.Table(columns=message["columns"], data=message["rows"])
            self._log(name, message["step"], {message["name"]: table})
        elif kind == "images":
            images = {key: wandb.Image(path) for key, path in message["images"].items()}
            self._log(name, message["step"], images)
        elif kind == "summary":
            run.summary.update(message["values"])
        elif kind == "end":
            self._finish(name, int(message["failed"]))
            self.ended.add(name)

    def close(self) -> None:
        """Close the runs that were not ended, as they are."""
        for name in [*self._open]:
            self._finish(name, _INTERRUPTED)

    def restart(self) -> None:
        """Begin anew where W&B's own process has died, as it does when a scheduler sends SIGTERM to all of a job."""
        self._open, self._last = {}, {}
        with contextlib.suppress(Exception):  # it says that the process is gone
            wandb.teardown()
        time.sleep(1.1)  # the names of W&B's directories are told apart by the second

    def go_offline(self, reason: str) -> None:
        """From now on, and say so."""
        self.mode = "offline"
        print(f"logging to W&B offline: {reason}; `wandb sync {self._folder}` uploads it later", flush=True)

    def _begin(self, name: str, message: dict[str, Any]) -> None:
        if name in self._open:
            return
        if message["only_open"]:
            self.ended.add(name)
            return
        try:
            self._open[name] = self._init(message)
        except (wandb.Error, TimeoutError) as error:
            if self.mode == "offline":
                raise
            self.go_offline(str(error).splitlines()[0])
            self._open[name] = self._init(message)

    def _log(self, name: str, step: int, values: dict[str, Any]) -> None:
        """Log unless the step is one that a killed study made twice."""
        if step >= self._last.get(name, 0):
            self._open[name].log(values, step=step)
            self._last[name] = step

    def _finish(self, name: str, code: int) -> None:
        """Close a run, and delete what interrupted processes wrote of it: all of it stands in the new file."""
        run = self._open[name]
        run.finish(exit_code=code)
        del self._open[name]
        for path in self._folder.glob(f"*run-*-{glob.escape(run.id)}"):
            if path != Path(run.settings.sync_dir) and len(path.name) == len(Path(run.settings.sync_dir).name):
                shutil.rmtree(path, ignore_errors=True)

    def _init(self, message: dict[str, Any]) -> Any:
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mtl"),
            id=message["id"],
            name=message["run"],
            group=message["group"],
            job_type=message["job_type"],
            tags=list(dict.fromkeys(message["tags"])),
            config=message["config"],
            mode=self.mode,  # type: ignore[arg-type]
            dir=str(self._folder.parent),
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            # What the study's config.yaml does not say of the machine is not W&B's to know; without it, a run costs a
            # fifth of the time to open.
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_INIT_SECONDS,
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )


def main(mode: str, spool: Path, study: int, token: str) -> None:
    """Log what is in the file `spool`, and what process `study` adds to it, until the file says `token`."""
    for number in (signal.SIGTERM, signal.SIGUSR1):  # a scheduler's, to every process of a job; the study decides
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # training comes first
    log = OpenRuns(mode, spool.parent)
    if mode == "online" and not _reachable():
        log.go_offline("its server cannot be reached")
    for attempt in range(_RESTARTS + 1):
        try:
            for message in _messages(spool, study, token):
                log.handle(message)
            log.close()
            break
        except Exception:  # W&B and its own process fail in many ways; the last time it is said
            if attempt == _RESTARTS:
                raise
            log.restart()
    # W&B replaces a run by what another file says of it. So a resumed run is logged from its beginning once more.
    left = [line for line in spool.read_bytes().splitlines(keepends=True) if _still_open(line, log.ended)]
    if left:
        partial = spool.with_suffix(".partial")
        partial.write_bytes(b"".join(left))
        partial.replace(spool)
    else:
        spool.unlink()


def _still_open(line: bytes, ended: set[str]) -> bool:
    message = _read(line) if line.endswith(b"\n") else {"kind": "close"}
    return message["kind"] != "close" and message["run"] not in ended


def _read(line: bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(line.decode(errors="replace"))
    return message


def _messages(path: Path, study: int, token: str) -> Iterator[dict[str, Any]]:
    """All that stands in the file and that is being added to it."""
    with path.open("rb") as file:
        while True:
            gone = os.getppid() != study
            start, line = file.tell(), file.readline()
            if line.endswith(b"\n"):
                message = _read(line)
                if message["kind"] != "close":
                    yield message
                elif message["token"] == token:
                    return
            elif gone:
                return
            else:
                file.seek(start)
                time.sleep(_POLL_SECONDS)


def _reachable() -> bool:
    """Whether the server answers at all, with whatever proxy is set: wandb itself would try for minutes."""
    answered = threading.Event()

    def ask() -> None:
        url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        try:
            urllib.request.urlopen(url, timeout=_REACHABLE_SECONDS).close()
        except urllib.error.HTTPError:
            answered.set()
        except OSError:
            return
        answered.set()

    threading.Thread(target=ask, daemon=True).start()  # looking up a name has no time limit
    return answered.wait(_REACHABLE_SECONDS)


if __name__ == "__main__":
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # A table waits here for its upload; by default in the home directory, which the login node may not share.
    os.environ.setdefault("WANDB_DATA_DIR", str(Path(sys.argv[2]).parent))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
