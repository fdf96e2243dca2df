"""The study's side of the tracker: what is to be logged goes to a file, which the logging process reads.

A file can neither be full nor be waited for, as a pipe can. What it says of a run stays in it until the run has ended,
so that a resumed study, or one whose logging process died, has its open runs logged again from their beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import secrets
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.extras import install
from mtl.files.whole import writing
from mtl.wandb_mode import check_word

SPOOL = "to-log.jsonl"
_CLOSE_SECONDS = 60
_WORKER = str(Path(__file__).with_name("worker.py"))


_ID_LENGTH = 96  # of 128 that W&B allows, as it names tables and files after the run


def _run_id(name: str) -> str:
    """An id that W&B takes, another one for each name."""
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "-", name)
    if len(plain) <= _ID_LENGTH:
        return plain
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{digest}-{plain[len(digest) + 1 - _ID_LENGTH :]}"


def check_mode(mode: str) -> None:
    """Raise `ValueError` if the user asked for a tracker that does not exist or cannot work here."""
    check_word(mode)
    if mode == "online" and importlib.util.find_spec("wandb") is None:
        raise ValueError(f"--wandb online needs wandb, which is not installed: {install('wandb')}")


class Tracker:
    """Logs to W&B runs, of which any number may be open. The study goes on whatever happens to the logging process.

    The id of a W&B run is made of the study's name and its own. So a resumed study goes on with the same W&B runs. The
    runs of a study are a group.

    Args:
        mode: `offline` (needs no account and no network), `online` or `disabled`.
        directory: of the study; W&B's files go to its `wandb/`.
        config: of the study, attached to each run.
        say: called once with what went wrong.
    """

    def __init__(self, mode: str, directory: Path, config: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self._say, self._config = say, dict(config)
        self._process: subprocess.Popen[bytes] | None = None
        if mode == "disabled":
            return
        if importlib.util.find_spec("wandb") is None:
            say(f"W&B is not installed, so nothing is logged to it: {install('wandb')}, or --wandb disabled")
            return
        self._folder, self._token = directory.resolve() / "wandb", secrets.token_hex(4)
        try:
            self._folder.mkdir(exist_ok=True)
            self._spool_path = self._folder / SPOOL
            self._spool = self._spool_path.open("ab")
            log = (self._folder / "tracker.log").open("ab")
        except OSError as error:
            say(f"nothing is logged to W&B: {error}")
            return
        with log:
            self._process = subprocess.Popen(
                # As a file, not as a module: the package would bring torch, and with it 200 MB and seconds.
                [sys.executable, _WORKER, mode, str(self._spool_path), str(os.getpid()), self._token],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the study
                env={**os.environ, "PYTHONUTF8": "1"},  # W&B takes names of files in UTF-8 alone
            )

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(
        self, run: str, *, job_type: str, tags: Iterable[object], config: Mapping[str, Any], only_open: bool = False
    ) -> None:
        """Open a W&B run, or go on with it.

        Args:
            run: its name.
            job_type: what W&B groups by within the study.
            tags: what W&B filters by.
            config: what is attached besides the study's.
            only_open: whether to do nothing unless the run is still open. What is logged to it later is dropped as
                well.
        """
        study = str(self._config["study"])
        self._send(
            "begin",
            run,
            id=_run_id(f"{study}-{run}"),
            group=study[-120:],
            job_type=job_type,
            tags=[str(tag)[:64] for tag in tags],
            config={**self._config, **config},
            only_open=only_open,
        )

    def row(self, run: str, step: int, values: Mapping[str, float]) -> None:
        """Log one point of the run's curves."""
        self._send("row", run, step=step, values=values)

    def table(self, run: str, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table. The items of a column must be of one type, or None."""
        self._send("table", run, step=step, name=name, columns=columns, rows=rows)

    def images(self, run: str, step: int, images: Mapping[str, Path]) -> None:
        """Log image files, by the names they are to have."""
        self._send("images", run, step=step, images={name: str(path.resolve()) for name, path in images.items()})

    def summary(self, run: str, values: Mapping[str, Any]) -> None:
        """Set what W&B's table of runs shows."""
        self._send("summary", run, values=values)

    def end(self, run: str, *, failed: bool = False) -> None:
        """Close the run."""
        self._send("end", run, failed=failed)

    def close(self) -> None:
        """Let the logging process write what is left, and end it."""
        if self._process is None:
            return
        self._send("close", "", token=self._token)
        if self._process is None:
            return
        try:
            if self._process.wait(_CLOSE_SECONDS) != 0:
                self._say(f"W&B logging ended with an error; see {self._folder / 'tracker.log'}")
        except subprocess.TimeoutExpired:
            self._say(
                f"W&B logging did not finish within {_CLOSE_SECONDS} s and was ended; `wandb sync --include-online "
                f"{self._folder}` uploads what was written"
            )
        finally:  # also on a second Ctrl-C
            self._abandon()

    def _send(self, kind: str, run: str, **content: Any) -> None:
        if self._process is None:
            return
        self._hear(self._process)
        try:
            if self._process.poll() is not None:
                raise ChildProcessError("its process is gone")
            line = json.dumps({"kind": kind, "run": run, **content}, ensure_ascii=False) + "\n"
            with writing(self._spool_path):
                self._spool.write(line.encode(errors="surrogateescape"))  # bytes of a file's name, whatever the locale
                self._spool.flush()
        except OSError as error:
            self._abandon()
            self._say(
                f"W&B logging stopped ({error}); the study goes on, and its own files are complete. "
                f"See {self._folder / 'tracker.log'}"
            )

    def _abandon(self) -> None:
        """End the process, if it has not ended, and send nothing any more."""
        process, self._process = self._process, None
        assert process is not None and process.stdout is not None
        process.kill()
        process.wait()
        self._hear(process)
        process.stdout.close()
        with contextlib.suppress(OSError):  # what could not be written before still cannot
            self._spool.close()

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on what the logging process has to say to the user."""
        assert process.stdout is not None
        while select.select([process.stdout], [], [], 0)[0] and (line := process.stdout.readline()):
            self._say(line.decode(errors="replace").strip())
