"""`mtl bench search`, small."""

import contextlib
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_population_is_timed_against_ray_in_processes_of_their_own():
    pytest.importorskip("ray")
    from mtl.bench.search import run

    rows = run(quick=True)
    for row in rows:
        assert set(row) == {"case", "ours", "peer", "peer_name", "ratio", "finished"}
        assert row["ratio"] == row["peer"] / row["ours"] > 0
        assert row["peer_name"].startswith("Ray Tune 2.")
    reused, fresh = rows
    assert reused["case"] == "PBT, 8 members x 20 steps, interval 10, processes reused" and reused["finished"]
    # A process for each turn of a member takes longer than one for all: it is stopped, and nothing of it is left.
    assert fresh["case"].endswith(", a process a member") and not fresh["finished"]
    assert fresh["ratio"] >= 1.5
    assert not _running("ray_tune.py")


def _running(what):
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in commands if what in command]
