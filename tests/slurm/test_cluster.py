"""The harness itself: two nodes with their own processes, addresses and GPUs, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.slurm import cluster as harness

pytestmark = pytest.mark.slurm


def test_nodes_have_addresses_processes_and_gpus_of_their_own(jobs):
    shown = jobs.cluster.run(
        "srun", "--nodes=2", "--gres=gpu:2", "bash", "-c", "hostname -I; echo $CUDA_VISIBLE_DEVICES"
    )
    assert sorted(shown.split()) == ["0,1", "0,1", "10.77.0.11", "10.77.0.12"]
    job = jobs.submit("--nodelist=node2 --wrap", "exec sleep 60.25")
    jobs.cluster.until(lambda: jobs.state(job) == "RUNNING", 10, "the job runs")
    jobs.cluster.until(lambda: "sleep 60.25" in jobs.cluster.processes("node2"), 5, "its process is on node2")
    assert "sleep 60.25" not in jobs.cluster.processes("node1")


def test_nothing_is_left_when_whoever_started_it_is_killed():
    # A directory of pytest's would be too long for the paths of SLURM's sockets.
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, harness.__file__, "bash", "-c", "srun sleep 61.5"]
        process = subprocess.Popen(command, env={**os.environ, "TMPDIR": folder}, cwd=folder)
        try:
            _until(lambda: any("sleep 61.5" in line and "srun" not in line for line in _running()))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        _until(lambda: not any(folder in line or "sleep 61.5" in line for line in _running()))


def _running() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode().strip())
        except OSError:
            continue
    return found


def _until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
