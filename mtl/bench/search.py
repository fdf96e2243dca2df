"""`mtl bench search`: population-based training as one program against Ray Tune.

All train the same members (network, strategy, optimizer, ranges), as many steps, with as many decisions, and write a
checkpoint at each; all are timed as fresh processes, so interpreters, imports and `ray.init` count. The report that
`mtl search` writes at its end has no counterpart in Ray and is left out. Ray Tune has two turns: as fast as it can,
in processes that members take over from one another, and as it is by default, with a process for each turn of a member.
The second is stopped where it would take too long, and its time is then a lower bound.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from mtl.bench.peers import FOLDER, ROOT, check_peers_are_here
from mtl.bench.search_problem import Size
from mtl.extras import install

_SIZES = {True: (8, 20, 10), False: (64, 300, 30)}  # members, steps, interval
#: The default of Ray Tune may take so many times as long as we do.
_PATIENCE = {True: 1.5, False: 25.0}


#: What Python runs on each side. The peer's is a file, since it is no part of the package.
_SIDES = {"ours": ("-m", "mtl.bench.search_ours"), "ray": (str(FOLDER / "ray_tune.py"),)}


class _Duration(NamedTuple):
    seconds: float
    finished: bool


def run(quick: bool = False, rounds: int = 1) -> list[dict[str, Any]]:
    """Time all searches in turn, and return a row for each way of Ray Tune.

    A row is `{case, ours, peer, peer_name, ratio, finished}`, in seconds, medians over rounds. The last way has one
    turn; `finished` says whether that came to its end.

    Args:
        quick: a search small enough for a test, most of whose time is starting up.
        rounds: repetitions.

    Raises:
        ValueError: Ray, or what runs it, is not installed.
        RuntimeError: one of the searches failed.
    """
    check_peers_are_here()
    size = _SIZES[quick]
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            f"mtl bench search compares with Ray Tune, which is not installed: {install('ray')}"
        ) from error
    times: dict[str, list[float]] = {"ours": [], "ray": []}
    for _ in range(rounds):
        for side, found in times.items():
            found.append(_timed(size, side).seconds)
    ours = statistics.median(times["ours"])
    ways = {
        "processes reused": _Duration(statistics.median(times["ray"]), True),
        "a process a member": _timed(size, "ray", "fresh", limit=_PATIENCE[quick] * ours),
    }
    members, steps, interval = size
    return [
        {
            "case": f"PBT, {members} members x {steps} steps, interval {interval}, {way}",
            "ours": ours,
            "peer": peer.seconds,
            "peer_name": f"Ray Tune {ray.__version__}",
            "ratio": peer.seconds / ours,
            "finished": peer.finished,
        }
        for way, peer in ways.items()
    ]


def _timed(size: tuple[int, int, int], side: str, *arguments: str, limit: float | None = None) -> _Duration:
    """One search in a process of its own, ended with all that it started after `limit` seconds."""
    with tempfile.TemporaryDirectory(prefix="mtl-", ignore_cleanup_errors=True) as folder:
        text = Size(*size, str(Path(folder) / "run")).text()
        command = [sys.executable, *_SIDES[side], text, *arguments]
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            seconds = time.perf_counter() - started
            _end(process)
            return _Duration(seconds, False)
        except BaseException:
            _end(process)
            raise
        seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise RuntimeError(f"the search of {side} failed: {errors.strip().splitlines()[-1:]}")
    return _Duration(seconds, True)


def _end(process: subprocess.Popen[str]) -> None:
    """Ray ends its processes on SIGTERM, and the kernel those of a driver that is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=20)
            return
