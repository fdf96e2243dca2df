"""`mtl bench search`: population-based training as one program against Ray Tune with a process a member.

Both train the same members (network, strategy, optimizer, ranges), as many steps, with as many decisions, and write a
checkpoint at each; both are timed as fresh processes, so interpreters, imports and `ray.init` count. The report that
`mtl search` writes at its end has no counterpart in Ray and is left out of both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mtl.bench.search_problem import Size

_SIZES = {True: (8, 20, 10), False: (64, 300, 30)}  # members, steps, interval


def run(quick: bool = False, rounds: int = 1) -> list[dict[str, Any]]:
    """Time both, alternately, and return `{case, ours, peer, peer_name, ratio}`; seconds, medians over rounds.

    Args:
        quick: a search small enough for a test; start-up outweighs everything else in it.
        rounds: repetitions.

    Raises:
        ValueError: Ray is not installed.
        RuntimeError: one of the searches failed.
    """
    members, steps, interval = _SIZES[quick]
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "mtl bench search compares with Ray Tune, which is not installed: pip install 'mtl[ray]'"
        ) from error
    times: dict[str, list[float]] = {"ours": [], "ray": []}
    for _ in range(rounds):
        for side, found in times.items():
            found.append(_timed(side, members, steps, interval))
    ours, peer = (statistics.median(times[side]) for side in ("ours", "ray"))
    case = f"PBT, {members} members x {steps} steps, interval {interval}"
    return [
        {"case": case, "ours": ours, "peer": peer, "peer_name": f"Ray Tune {ray.__version__}", "ratio": peer / ours}
    ]


def _timed(side: str, members: int, steps: int, interval: int) -> float:
    """Seconds of one search in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="mtl-") as folder:
        size = Size(members, steps, interval, str(Path(folder) / "run"))
        command = [sys.executable, "-m", f"mtl.bench.search_{side}", size.text()]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
        seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"the search of {side} failed: {done.stderr.strip().splitlines()[-1:]}")
    return seconds
