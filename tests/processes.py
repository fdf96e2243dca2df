"""Searches as processes of their own, and the processes that they start."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def start(*arguments, **options):
    """Begin `mtl ARGUMENTS`; options are those of `Popen`."""
    command = [sys.executable, "-m", "mtl", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finish(process, code=0):
    """Wait for the end of a process, and give what it said on stderr."""
    _, errors = process.communicate(timeout=180)
    assert process.returncode == code and "Traceback" not in errors, errors
    return errors


def wait(process, condition, seconds=120):
    """Until `condition` gives something true, which is returned, of a process that must not end meanwhile."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found


def exploits(out):
    """How many exploits the schedule in `out` has so far."""
    path = out / "schedule.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return sum('"source": null' not in line for line in lines)


def hosts_of(pid):
    """Processes that train shards for a search, which Ray names after what they run."""
    return [found for found in descendants(pid) if _command(found).startswith(b"ray::Host")]


def descendants(pid):
    """All processes that `pid` started, and those that they did."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = []
    for one in parents:
        above = one
        while above in parents and (above := parents[above]) != pid:
            pass
        if above == pid:
            found.append(one)
    return found


def alive(pid):
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
