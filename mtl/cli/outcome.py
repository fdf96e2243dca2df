"""How a study ends: what is said, and with which exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from mtl.cli.errors import BadInput, Failed, Interrupted
from mtl.cli.interrupt import as_interrupt
from mtl.cli.shared import tell
from mtl.cli.terminal import console
from mtl.extras import missing
from mtl.study.rundir import RunDirectory
from mtl.study.watchers import one_line
from mtl.tracking import Tracker, log_report
from mtl.train import Stopped


def exit_code(records: Sequence[Mapping[str, Any]], directory: Path) -> int:
    """0, or 1 with a word where none of these runs was trained to its end."""
    if any(record["status"] == "done" for record in records):
        return 0
    lost = ", ".join(sorted({str(record["status"]) for record in records})) or "none was begun"
    tell(f"failed: no run was trained to its end ({lost}); {directory / 'results.jsonl'} says why of each")
    return 1


def keep_best(directory: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Give the weights of the run that the report names first their name, and say where they are."""
    ranking = summary.get("ranking") or [None]
    if directory.models and (path := directory.models.settle(directory.records(), ranking[0])):
        console.print(f"Best model: {escape(str(path))}", highlight=False, soft_wrap=True)


def report_comparison(directory: RunDirectory, benchmark: str, tracker: Tracker, closing: contextlib.ExitStack) -> None:
    """What ends a study of strategies: its report, the best model, and what is logged of both.

    Args:
        directory: of the study.
        benchmark: its name.
        tracker: logs.
        closing: closes the tracker, which belongs to the report.
    """
    from mtl.cli.showing import show_report  # brings matplotlib, which training does not need

    with reporting(directory.path):
        summary = show_report([directory.path], directory.path)
        keep_best(directory, summary)
        log_report(tracker, directory.path, benchmark, summary)
        closing.close()


@contextlib.contextmanager
def reporting(directory: Path) -> Iterator[None]:
    """While the report of finished runs is written, Ctrl-C and a full disk cost the report alone, and say so.

    Raises:
        Interrupted: by Ctrl-C.
        Failed: a file of the report cannot be written.
    """
    kept = f"all runs are finished and saved, and `mtl report {directory}` writes their report"
    try:
        with as_interrupt():
            yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {kept}") from None
    except OSError as error:
        if error.filename is None:
            raise
        raise Failed(f"{error.strerror} ({error.filename}); {kept}") from error


@contextlib.contextmanager
def at_work(command: str, directory: RunDirectory) -> Iterator[None]:
    """While a command is at work in its directory: whatever goes wrong is written there, and said in a line.

    Raises:
        Failed: of anything but bad input, a signal, and what is no file of its own.
        Interrupted: by the second Ctrl-C, once there is something that was saved.
    """
    kept = f"what was finished is saved, and the same command with --resume --out {directory.path} continues"
    try:
        with as_interrupt():
            yield
    except (BadInput, Failed, Interrupted, Stopped):
        raise
    except OSError as error:
        if error.filename is None:  # another process of the run has ended, or nobody reads what is printed
            raise
        raise Failed(f"{error.strerror} ({error.filename}); {kept}") from error
    except KeyboardInterrupt:
        if not directory.begun():
            raise
        raise Interrupted(f"interrupted; {kept}") from None
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and missing(error):
            raise
        path = directory.write_failure(command, error)
        raise Failed(f"{one_line(error)} (traceback: {path})") from error
