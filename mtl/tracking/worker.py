"""The logging process: reads messages from its standard input and gives them to W&B. The only importer of wandb."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import wandb

_REACHABLE_SECONDS = 3.0


def main(mode: str, directory: str) -> None:
    """Log until the pipe closes; a run that was not ended by then is closed as it is."""
    if mode == "online" and not _reachable():
        print("W&B cannot be reached: logging offline; `wandb sync` uploads the files later", file=sys.stderr)
        mode = "offline"
    for number in (signal.SIGTERM, signal.SIGUSR1):  # a scheduler's, to every process of a job; the study decides
        signal.signal(number, signal.SIG_IGN)
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    run: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        if message["kind"] == "begin":
            run = wandb.init(
                project="mtl",
                id=f"{message['group']}-{message['id']}"[-120:],
                name=message["id"],
                group=message["group"],
                job_type=message["job_type"],
                tags=[tag[:64] for tag in message["tags"]],
                config=message["config"],
                mode=mode,  # type: ignore[arg-type]
                dir=directory,
                resume="allow" if mode == "online" else None,
                settings=settings,
            )
        elif message["kind"] == "row":
            run.log(message["values"], step=message["step"])
        elif message["kind"] == "end":
            run.summary.update(message["summary"])
            run.finish(exit_code=int(message["failed"]))
            run = None
    if run is not None:
        run.finish(exit_code=1)


def _reachable() -> bool:
    """Whether the server answers at all: wandb itself would try for minutes."""
    url = urllib.parse.urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), timeout=_REACHABLE_SECONDS).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    main(sys.argv[1], str(Path(sys.argv[2])))
