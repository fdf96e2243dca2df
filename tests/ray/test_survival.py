"""Searches of either engine that lose processes, checkpoints and members: real processes, killed."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import torch

from mtl.cli.main import main
from mtl.train import checkpoint
from tests.processes import alive, exploits, finish, hosts_of, start, wait
from tests.written import events_of, records_of, summary_of

SEARCH = ["search", "tests/tiny.py:Tiny", "--strategy=gradnorm", "--members=6", "--steps=120", "--interval=4"]
SEARCH += ["--wandb=disabled", "--quiet"]
ENGINES = {"population": [], "ray": ["--engine=ray", "--shards=2"]}

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The search as it is when nothing happens to it."""
    out = tmp_path_factory.mktemp("search") / "whole"
    assert main([*SEARCH, f"--out={out}"]) == 0
    return out


@pytest.fixture
def carried_out(on_cluster, capsys):
    """Runs `mtl ARGUMENTS` to its end, with Ray in a process of its own, and gives what it says on stderr."""

    def run(engine, *arguments):
        if engine == "ray":
            return on_cluster(*arguments, *ENGINES[engine])
        assert main([*arguments, *ENGINES[engine]]) == 0
        return capsys.readouterr().err

    return run


def check_same(out, whole):
    schedules = [events_of(path) for path in (out, whole)]
    found, expected = ([(e["step"], e["target"], e["source"], e["after"]) for e in events] for events in schedules)
    assert found == expected
    best = [summary_of(path)["best"]["objective"] for path in (out, whole)]
    assert best[0] == pytest.approx(best[1], rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_search_whose_checkpoint_is_cut_short_goes_on_with_exploits(engine, whole, tmp_path):
    out = tmp_path / "run"
    process = start(*SEARCH, *ENGINES[engine], f"--out={out}")
    wait(process, lambda: exploits(out) > 10)
    training = hosts_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = exploits(out)
    path = out / "checkpoints" / "search.pt"
    for each in (path, checkpoint.previous(path)):
        assert "cohort" in torch.load(each, weights_only=True)
    content = path.read_bytes()
    path.unlink()  # the one before may be the same file under another name
    path.write_bytes(content[: len(content) // 3])

    process = start(*SEARCH, *ENGINES[engine], "--resume", f"--out={out}")
    if engine == "ray":
        # One of the processes that train dies as well, once the search goes on.
        host, _ = wait(process, lambda: len(found := hosts_of(process.pid)) == 2 and found)
        wait(process, lambda: exploits(out) > before)
        os.kill(host, signal.SIGKILL)
    errors = finish(process)
    assert "cannot be read: going on from the one before" in errors
    assert ("; going on from the last segment" in errors) == (engine == "ray")
    assert exploits(out) > before + 4
    check_same(out, whole)
    assert len(training) == (2 if engine == "ray" else 0) and not any(map(alive, training)), "none outlives its search"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The search, stopped by Ctrl-C in this process; of either engine, since its files are those of both."""
    out = tmp_path_factory.mktemp("search") / "stopped"
    process = start(*SEARCH, f"--out={out}")
    wait(process, lambda: exploits(out) > 4)
    process.send_signal(signal.SIGINT)
    finish(process, code=75)
    return out


@pytest.mark.parametrize("engine", ENGINES)
def test_a_search_whose_checkpoints_are_gone_starts_over(engine, stopped, whole, tmp_path, carried_out):
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    path = out / "checkpoints" / "search.pt"
    path.write_bytes(b"")
    checkpoint.previous(path).unlink()
    errors = carried_out(engine, *SEARCH, "--resume", f"--out={out}")
    assert "cannot be read: the search starts over; what is in results.jsonl stays" in errors
    check_same(out, whole)


def test_a_search_of_one_process_goes_on_with_several(on_cluster, stopped, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    before = (out / "schedule.jsonl").read_text()
    errors = on_cluster(*SEARCH, *ENGINES["ray"], "--resume", f"--out={out}")
    assert "2 shards" in errors and "starts over" not in errors
    assert (out / "schedule.jsonl").read_text().startswith(before)
    check_same(out, whole)


@pytest.mark.parametrize("engine", ENGINES)
def test_members_that_are_not_finite_are_replaced(engine, tmp_path, carried_out):
    out = tmp_path / "run"
    broken = [argument for argument in SEARCH if argument != "--steps=120"]
    broken += ["--steps=24", "--search", "lr=0.01,1e30", "optimizer=sgd", "--resample=0", "--seed=3"]
    carried_out(engine, *broken, f"--out={out}")
    events = events_of(out)
    began = [event["target"] for event in events if event["source"] is None and event["after"]["lr"] == 1e30]
    assert 2 <= len(began) <= 4, "more than are replaced for being the worst, and some that can replace them"
    first = [event for event in events if event["source"] is not None and event["step"] == 4]
    assert set(began) <= {event["target"] for event in first}
    records = records_of(out)
    assert [record["status"] for record in records] == ["done"] * 6
    assert summary_of(out)["replaced_nonfinite"] >= len(began)
