"""Random searches in shards, a fixed number of draws: processes are lost, the driver is killed and stopped."""

import contextlib
import json
import os
import random

import pytest

from tests.search.any_search import draw_search, draw_shards
from tests.search.test_any_search import ALIKE, Disk, Killed, call, interrupted, killed, shown
from tests.written import records_of

pytest.importorskip("ray", reason="needs the extra ray")

from tests.ray.pretend import Ray, pretend

DRAWS = ((3, "pbt"),)

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(params=DRAWS, ids=str)
def drawn(request, monkeypatch):
    """A command, its seed, and whether what it leaves depends on the order in which its shards arrive."""
    monkeypatch.setattr("mtl.report.search.figures.draw_search", lambda *_given: {})
    benchmark, words = draw_search(*request.param)
    shards = draw_shards(request.param[0], words)
    return ["search", benchmark, *ALIKE, *words, *shards], request.param[0], "--asynchronous" in shards


def disturbed(command, seed, writes, monkeypatch, calls):
    """Carry out a search whose driver is killed and stopped once each, and which loses three processes."""
    draw, sync = random.Random(seed), os.fsync
    lost = draw.sample(range(2, calls), 3)
    ray = pretend(monkeypatch, Ray(seed + 1, dies=lambda number, _name: number in lost))
    for happens in (killed, interrupted):
        monkeypatch.setattr(os, "fsync", Disk(sync, draw.randint(4, writes // 2), happens))
        with contextlib.suppress(Killed):
            assert call(*command, "--resume") in (0, 75)
    monkeypatch.setattr(os, "fsync", sync)
    assert call(*command, "--resume") == 0
    return ray


def test_what_is_lost_of_a_search_in_shards_is_made_again(drawn, tmp_path, monkeypatch, capsys):
    command, seed, by_arrival = drawn
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    ray, disk = pretend(monkeypatch, Ray(seed)), Disk(os.fsync)
    with monkeypatch.context() as counting:
        counting.setattr(os, "fsync", disk)
        assert call(*command, f"--out={whole}") == 0
    assert disturbed([*command, f"--out={broken}"], seed, disk.count, monkeypatch, ray.calls).lost > 0
    if not by_arrival:
        assert shown(broken) == shown(whole)
    for out in (whole, broken):
        runs = {record["run"]: record for record in records_of(out)}
        assert len(runs) == len(records_of(whole))
        curves = [json.loads((out / record["history"]).read_text())["search_step"] for record in runs.values()]
        assert all(len({*steps}) == len(steps) for steps in curves), "each interval is recorded once"
        assert call("replay", out, "--quiet") == 0
        assert "bit for bit" in capsys.readouterr().out
