"""A signal within a segment of a search ends it there; resumed, it gives what a search without one gives."""

import json
import os
import signal

import pytest

from mtl.cli.interrupt import stop_on_signals
from mtl.cli.main import main
from mtl.search.methods import MethodOptions, Problem, find_method
from mtl.search.objective import Objective
from mtl.search.search import Search
from mtl.search.shards.sharded import ShardedCohort
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import open_run_directory
from mtl.train import Cohort, Settings, Stopped
from mtl.train.groups import Groups
from tests.ray.here import Here
from tests.tiny import Tiny
from tests.written import records_of

LENGTH, INTERVAL = 40, 10
SEARCH = ["search", "tests/tiny.py:Tiny", "--strategy=gradnorm", "--members=4", "--steps=40", "--interval=10"]
SEARCH += ["--search", "lr=1e-3:0.1:log", "--wandb=disabled", "--quiet"]


class Waits(Here):
    """Hosts that are never done at the first look."""

    looks = 0

    def done(self, calls):
        self.looks += 1
        return super().done(calls) if self.looks % 2 == 0 else []


def searched(path, make, should_stop, *, asynchronous=False):
    space = build_space(Tiny(), ["gradnorm"], read_options(["lr=1e-3:0.1:log"]))
    method = find_method("pbt")(
        Problem(space, LENGTH, INTERVAL, 0), MethodOptions(members=4, asynchronous=asynchronous)
    )
    search = Search("search", "", method, method.problem, Objective(["selection"], Tiny()), make)
    with open_run_directory(path, resume=True) as directory:
        records = search.run(directory, "tiny", should_stop=should_stop)
        costless = [{**record, "cost": record["cost"]["steps"]} for record in records]
        return json.dumps(costless), directory.schedule_path.read_text()


def whole(members):
    return Cohort(Tiny(), Tiny().load(), members, Settings(steps=LENGTH, batch_size=32), told=True)


def test_a_search_in_this_process_stops_between_two_steps(tmp_path, monkeypatch):
    expected = searched(tmp_path / "whole", whole, lambda: False)
    steps, step = [], Groups.step
    monkeypatch.setattr(Groups, "step", lambda groups: (steps.append(1), step(groups)))
    with pytest.raises(Stopped):
        searched(tmp_path / "cut", whole, lambda: len(steps) >= 14)
    assert len(steps) == 14
    assert searched(tmp_path / "cut", whole, lambda: False) == expected
    assert len(steps) == 14 + LENGTH - INTERVAL, "the segment that was finished is not trained again"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_search_in_shards_does_not_wait_for_them(asynchronous, tmp_path):
    def sharded(members):
        return ShardedCohort(Waits(2), members, print)

    found = []
    for path in ("whole", "cut"):
        asked = []

        def stops(asked=asked, path=path):
            asked.append(1)
            return path == "cut" and len(asked) == 4

        if path == "cut":
            with pytest.raises(Stopped):
                searched(tmp_path / path, sharded, stops, asynchronous=asynchronous)
            assert len(asked) == 4
        found.append(searched(tmp_path / path, sharded, lambda: False, asynchronous=asynchronous))
    if not asynchronous:  # otherwise who is heard of first depends on where they set out from
        assert found[0] == found[1]
    assert len(json.loads(found[1][0])) == 4


def hang_up(monkeypatch, at):
    """The terminal is closed within the step of this number."""
    steps, step = [], Groups.step

    def stepped(groups):
        steps.append(1)
        if len(steps) == at:
            os.kill(os.getpid(), signal.SIGHUP)
        step(groups)

    monkeypatch.setattr(Groups, "step", stepped)
    return steps


def results(out):
    records = records_of(out)
    return [{**record, "cost": None} for record in records]


def test_a_closed_terminal_stops_and_saves_a_search(tmp_path, monkeypatch, capsys):
    assert main([*SEARCH, f"--out={tmp_path / 'whole'}"]) == 0
    with monkeypatch.context() as patch:
        steps = hang_up(patch, at=14)
        before = len(steps)
        assert main([*SEARCH, f"--out={tmp_path / 'cut'}"]) == 75
        assert len(steps) - before == 14
    assert "--resume" in capsys.readouterr().err
    assert main([*SEARCH, "--resume", f"--out={tmp_path / 'cut'}"]) == 0
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    assert (tmp_path / "cut/schedule.jsonl").read_text() == (tmp_path / "whole/schedule.jsonl").read_text()


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hang_up(monkeypatch, at=14)
        assert main([*SEARCH, f"--out={tmp_path / 'run'}"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_each_signal_is_heard_and_what_was_before_is_put_back(number):
    before = signal.getsignal(number)
    with stop_on_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()
    assert signal.getsignal(number) is before
