"""The study's side of the tracker. Whatever happens to the logging process, the study goes on."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.study.plan import RunPlan

MODES = ("offline", "online", "disabled")
_CLOSE_SECONDS = 60


def check_mode(mode: str) -> None:
    """Raise `ValueError` if the user asked for a tracker that cannot work here."""
    if mode == "online" and importlib.util.find_spec("wandb") is None:
        raise ValueError("--wandb online needs wandb, which is not installed: pip install 'mtl[wandb]'")


class Tracker:
    """Logs each run of a study as one W&B run with the run's own name as its id.

    Group is the study, job type the phase, tags the benchmark and the strategy; curve points carry the training step.

    Args:
        mode: `offline` (default; needs no account and no network), `online` or `disabled`.
        directory: of the study; the files go to its `wandb/`.
        config: of the study, attached to each run.
        say: told about trouble, once.
    """

    def __init__(self, mode: str, directory: Path, config: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self._say, self._config = say, dict(config)
        self._process: subprocess.Popen[bytes] | None = None
        if mode == "disabled":
            return
        if importlib.util.find_spec("wandb") is None:
            say("W&B is not installed, so nothing is logged to it: pip install 'mtl[wandb]', or --wandb disabled")
            return
        (directory / "wandb").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mtl.tracking.worker", mode, str(directory.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=(directory / "wandb" / "tracker.log").open("a"),
            start_new_session=True,  # Ctrl-C is for the study, which then closes the pipe
        )

    def begin(self, run: RunPlan, hyperparameters: dict[str, Any]) -> None:
        """Open the run."""
        self._send(
            "begin",
            id=run.name,
            group=self._config["study"],
            job_type=run.phase.replace("_", "-"),
            tags=[str(self._config["benchmark"]), run.task or run.strategy],
            config={**self._config, **hyperparameters, "seed": run.seed},
        )

    def progress(self, run: RunPlan, done: int, total: int) -> None:
        """Steps are not logged one by one."""

    def progress_together(self, runs: Sequence[RunPlan], done: int, total: int) -> None:
        """Nor those of several runs."""

    def row(self, run: RunPlan, step: int, values: dict[str, float]) -> None:  # noqa: ARG002
        """Log a point of the curves."""
        self._send("row", step=step, values=values)

    def end(self, run: RunPlan, record: dict[str, Any]) -> None:  # noqa: ARG002
        """Close the run with its results."""
        summary = {f"test/{task}/{key}": x for task, values in record["metrics"].items() for key, x in values.items()}
        summary |= {f"cost/{key}": x for key, x in record["cost"].items()} | {"status": record["status"]}
        self._send("end", summary=summary, failed=record["status"] != "done")

    def close(self) -> None:
        """Let the logging process finish its writing."""
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            if process.stdin is not None:
                process.stdin.close()
            if process.wait(_CLOSE_SECONDS) != 0:
                self._say("W&B logging ended with an error; see wandb/tracker.log")
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
            self._say("W&B logging did not finish; see wandb/tracker.log")

    def _send(self, kind: str, **content: Any) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write((json.dumps({"kind": kind, **content}) + "\n").encode())
            self._process.stdin.flush()
        except OSError:
            self._process.kill()
            self._process = None
            self._say("W&B logging stopped; the study goes on, its own files are complete. See wandb/tracker.log")
