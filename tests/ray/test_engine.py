"""`--engine ray`: the same search in several processes, real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtl.cli.main import main
from mtl.population import Cohort, Member
from mtl.ray.cohort import ShardedCohort
from mtl.train import Settings
from tests.ray.here import Here
from tests.tiny import Tiny

ROOT = Path(__file__).parents[2]
SEARCH = ["search", "tests/tiny.py:Tiny", "--strategy=gradnorm", "--members=5", "--epochs=30", "--wandb=disabled"]


def _members(count, first=0):
    return [Member("gradnorm", first + k, {"lr": 1e-3 * (k + 1)}) for k in range(count)]


def _selections(cohort):
    return [evaluation.selection for evaluation in cohort.evaluate()]


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_do_what_one_cohort_does(shards):
    """All calls of a search, the members numbered across shards; saved and loaded in the middle."""
    hosts = Here(shards)
    sharded = ShardedCohort(hosts, _members(5), print)
    whole = Cohort(Tiny(), hosts.splits, _members(5), Settings(steps=40, batch_size=32))
    for cohort in (sharded, whole):
        cohort.advance(5)
        cohort.exploit({0: 4, 1: 3, 2: 4})  # to another shard and, where there are few, within one
        cohort.replace({0: Member("gradnorm", 0, {"lr": 0.02}), 3: Member("gradnorm", 3, {"lr": 0.001})})
        cohort.advance(5)
        cohort.keep([4, 0, 3])
        cohort.add(_members(3, first=10))
        cohort.advance(5)
    state = sharded.state_dict()
    again = ShardedCohort(Here(1), _members(1), print)
    again.load_state_dict(state)
    for cohort in (sharded, whole, again):
        cohort.advance(5)
    assert _selections(sharded) == pytest.approx(_selections(whole), abs=1e-6)
    assert _selections(again) == _selections(sharded)
    assert [r.best_step for r in sharded.results()] == [r.best_step for r in whole.results()]


def test_a_shard_that_loses_all_members_is_filled_again():
    cohort = ShardedCohort(Here(2), _members(2), print)
    cohort.keep([1])
    cohort.add(_members(2, first=5))
    assert len(_selections(cohort)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shards=2"], "--shards 2: it is an option of --engine ray"),
        (["--engine=ray", "--shards=0"], "--shards 0: must be at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, capsys, tmp_path):
    assert main([*SEARCH, *options, f"--out={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


def _start(out, *options):
    command = [sys.executable, "-m", "mtl", *SEARCH, *options, f"--out={out}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _files(out):
    schedule = [json.loads(line) for line in (out / "schedule.jsonl").read_text().splitlines()]
    return schedule, json.loads((out / "summary.json").read_text())


@pytest.mark.slow
def test_one_shard_gives_the_search_of_this_process_and_killed_processes_change_nothing(tmp_path):
    pytest.importorskip("ray")
    here, there = tmp_path / "here", tmp_path / "there"
    process = _start(here)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    process = _start(there, "--engine=ray", "--shards=1")
    end = time.monotonic() + 90
    while not (killed := _hosts_of(process.pid)) or not (there / "checkpoints" / "search.pt").exists():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(killed[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "; going on from the last segment" in errors and "Traceback" not in errors
    assert _files(there) == _files(here)


def _hosts_of(pid):
    """Processes that train shards for a search, which Ray names after what they run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Host") and _descends(int(path.parent.name), pid):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _descends(pid, ancestor):
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False
