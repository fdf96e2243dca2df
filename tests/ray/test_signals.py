"""What a search on Ray does with a loss that a scheduler's signal explains, and with one that nothing does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mtl.cli.config_file import read_arguments
from mtl.cli.engines import find_engine
from mtl.cli.shared import make_setting
from mtl.search.shards.sharded import ShardLost
from mtl.train import Stopped

pytest.importorskip("ray")


@pytest.fixture
def engine(monkeypatch):
    options = read_arguments(["search", "tests/tiny.py:Tiny", "--engine=ray", "--device=cpu"])
    monkeypatch.setattr("mtl.ray.cluster.nodes", lambda: [{"NodeManagerAddress": "here"}])
    return find_engine(options, make_setting(options))


class Loses:
    """Searches, of which the first so many lose a process."""

    def __init__(self, losses):
        self.losses, self.made = losses, 0

    def __call__(self):
        self.made += 1
        return SimpleNamespace(run=self.run, totals=SimpleNamespace(steps=0))

    def run(self, *_arguments):
        if self.made <= self.losses:
            raise ShardLost("process 1 on node2")
        return ["record"]


def test_a_process_lost_a_moment_before_the_signal_ends_the_search(engine):
    searches, not_yet = Loses(1), iter([False, False])
    with pytest.raises(Stopped):
        engine.run(searches, None, "tiny", [], lambda: next(not_yet, True))
    assert searches.made == 1 and engine.lost == 0


def test_a_process_lost_without_one_costs_a_segment(engine, monkeypatch):
    monkeypatch.setattr("mtl.cli.engines._SIGNAL_SECONDS", 0.1)
    searches = Loses(2)
    assert engine.run(searches, None, "tiny", [], lambda: False) == ["record"]
    assert searches.made == 3 and engine.lost == 2


def test_a_search_that_loses_processes_again_and_again_fails(engine, monkeypatch):
    monkeypatch.setattr("mtl.cli.engines._SIGNAL_SECONDS", 0.0)
    searches = Loses(99)
    with pytest.raises(ShardLost):
        engine.run(searches, None, "tiny", [], lambda: False)
    assert searches.made == 11


def test_a_node_that_comes_back_trains_again_and_counts_as_no_loss(engine):
    searches, came = [], iter([False, True, False, False])
    hosts = SimpleNamespace(could_spread=lambda: next(came), close=lambda: searches.append("closed"))

    def make():
        engine._hosts = engine._hosts or hosts
        return SimpleNamespace(run=run)

    def run(_directory, _benchmark, _observers, should_stop, between):
        searches.append("begun")
        for _ in range(2):
            between()
        return [should_stop(), should_stop()]

    assert engine.run(make, None, "tiny", [], lambda: False) == [False, False]
    assert searches == ["begun", "closed", "begun"] and engine.lost == 0
