"""Asynchronous PBT: shards that do not wait for each other."""

from __future__ import annotations

import json
import os
import signal

import pytest

from mtl.cli.main import main
from mtl.files.lineage import read_events
from mtl.search.methods import MethodOptions, Problem, Report, find_method
from mtl.search.objective import Objective
from mtl.search.recovery import save_state
from mtl.search.replay import differences, rerun, retrace
from mtl.search.rerun import Rerun
from mtl.search.search import Search
from mtl.search.shards.sharded import ShardedCohort
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import open_run_directory
from mtl.train import Cohort, Settings, Stopped
from tests.processes import hosts_of, start, wait
from tests.ray.here import Here
from tests.tiny import Tiny, TinyWithDropout
from tests.written import records_of

LENGTH, INTERVAL = 40, 5
SEARCH = ["search", "tests/tiny.py:Tiny", "--strategy=gradnorm", "--members=5", "--epochs=30", "--wandb=disabled"]
SEARCH += ["--engine=ray", "--shards=2", "--asynchronous"]


class Stops:
    """Asks to stop after so many segments."""

    def __init__(self, after=10**6):
        self.left = after

    def __call__(self):
        self.left -= 1
        return self.left < 0


def searched(path, hosts, stops=None, asynchronous=True, members=6, strategy="gradnorm", first=0):
    """The search, its records and its events; in this process when `hosts` is None."""
    benchmark = (hosts or Here(1)).benchmark
    space = build_space(benchmark, [strategy], read_options(["lr=1e-3:0.1:log"]))
    problem = Problem(space, LENGTH, INTERVAL, first)
    method = find_method("pbt")(problem, MethodOptions(members=members, asynchronous=asynchronous))

    def make(members):
        return _whole(benchmark)(members) if hosts is None else ShardedCohort(hosts, members, print)

    search = Search("search", "", method, problem, Objective(["selection"], benchmark), make)
    with open_run_directory(path, resume=True) as directory:
        records = search.run(directory, "tiny", should_stop=stops or Stops())
        return search, records, read_events(directory.schedule_path)


def _whole(benchmark):
    here = Here(1, benchmark=type(benchmark))
    return lambda members: Cohort(benchmark, here.splits, members, here.settings, told=True)


def replayed(search, record, events, benchmark):
    """How far a replay of a run is from its record."""
    again = retrace(search.problem, events, record, search.objective, _whole(benchmark), lr=Settings().lr)
    return max(differences(record, again).values())


def without_time(records):
    return json.loads(json.dumps([{**record, "cost": record["cost"]["steps"]} for record in records]))


@pytest.mark.parametrize("place", ["population", "ray"])
def test_in_one_place_it_is_the_synchronous_search(tmp_path, place):
    _, expected, events = searched(tmp_path / "synchronous", None, asynchronous=False)
    _, found, same = searched(tmp_path / "asynchronous", Here(1) if place == "ray" else None)
    assert same == events and sum(event.source is not None for event in events) > 5
    assert without_time(found) == without_time(expected)


@pytest.mark.parametrize(
    ("strategy", "benchmark", "paces", "first"),
    [("gradnorm", Tiny, [1.0, 2.5, 1.7], 0), ("rlw", TinyWithDropout, [1.0, 1.7], 1)],
)
def test_a_slow_shard_holds_nobody_up_and_every_run_can_be_replayed(tmp_path, strategy, benchmark, paces, first):
    """Noise of a strategy and dropout included: a run's random numbers are its own, whatever it takes over."""
    hosts = Here(len(paces), paces, benchmark)
    search, records, events = searched(tmp_path, hosts, strategy=strategy, first=first)
    exploits = [event for event in events if event.source is not None]
    apart = [event.source_step - event.step for event in exploits]
    assert min(apart) < 0 < max(apart)
    assert hosts.now == pytest.approx(LENGTH / INTERVAL * max(paces))  # that of the slowest by itself
    assert [record["cost"]["steps"] for record in records] == [LENGTH] * 6
    assert search.totals.steps == search.method.work and search.totals.exploits == len(exploits)
    for record in records:
        assert replayed(search, record, events, hosts.benchmark) < 1e-5


def test_a_source_is_taken_over_as_it_was_when_its_score_was_known(tmp_path):
    """Whoever is a target has no score until it is evaluated again, and the events say which state was taken."""
    _, _, events = searched(tmp_path, Here(2, paces=[1.0, 1.6]), members=8)
    changed = {}
    for event in events:
        if event.source is not None:
            assert event.source_step > changed.get(event.source, -1)
            assert event.scores["source"] is not None
        changed[event.target] = event.step


def test_stopped_in_the_middle_it_goes_on(tmp_path):
    paces = [1.0, 2.5]
    with pytest.raises(Stopped):
        searched(tmp_path, Here(2, paces), Stops(7))
    before = read_events(tmp_path / "schedule.jsonl")
    search, records, events = searched(tmp_path, Here(2, paces))
    assert events[: len(before)] == before and len(events) > len(before)
    assert [record["cost"]["steps"] for record in records] == [LENGTH] * 6
    assert search.totals.steps == search.method.work
    best = max(records, key=lambda record: record["selection"])
    assert replayed(search, best, events, Tiny()) < 1e-5


class Killed(BaseException):
    """Nothing more happens, as in a process that was killed."""


def test_killed_between_a_record_and_its_checkpoint_it_is_what_is_recorded_in_the_end(tmp_path, monkeypatch):
    """The shard whose runs had ended comes second when the search goes on."""

    def save(directory, *given):
        if directory.records():
            raise Killed
        save_state(directory, *given)

    monkeypatch.setattr("mtl.search.search.save_state", save)
    with pytest.raises(Killed):
        searched(tmp_path, Here(2, paces=[1.0, 1.01]))
    early = {record["trial"]: record["spent"] for record in records_of(tmp_path)}
    monkeypatch.setattr("mtl.search.search.save_state", save_state)
    search, found, events = searched(tmp_path, Here(2, paces=[1.5, 1.0]))
    records = {record["trial"]: record for record in found}
    assert len(records) == 6 and all(records[trial]["spent"] > spent for trial, spent in early.items())
    curves = {run: json.loads((tmp_path / record["history"]).read_text()) for run, record in records.items()}
    for run, record in records.items():
        part = Rerun(events, records, run)
        again = rerun(search.problem, part, run, search.objective, _whole(Tiny()), curves)
        assert set(differences(record, again).values()) == {0.0}


def test_a_run_that_is_not_finite_is_replaced(tmp_path):
    hosts = Here(2, paces=[1.0, 1.6])
    space = build_space(Tiny(), ["equal"], read_options(["lr=1e-2,1e30"]))
    problem = Problem(space, LENGTH, INTERVAL, 3)
    method = find_method("pbt")(problem, MethodOptions(members=8, resample=0.0, asynchronous=True))
    aim = Objective(["selection"], Tiny())
    search = Search("search", "", method, problem, aim, lambda members: ShardedCohort(hosts, members, print))
    with open_run_directory(tmp_path / "run", resume=True) as directory:
        records = search.run(directory, "tiny")
    assert search.totals.replaced_nonfinite > 0
    assert all(record["status"] == "done" for record in records)


def reports(step, scores, first=0):
    return [Report(first + k, step, {"strategy": "equal"}, (score,), False) for k, score in enumerate(scores)]


def test_scores_are_compared_at_the_nearest_steps():
    """The others have made twice the steps, and better scores by now: those at the same step count."""
    problem = Problem(build_space(Tiny(), ["equal"], {}), LENGTH, INTERVAL, 0)
    method = find_method("pbt")(problem, MethodOptions(members=4, asynchronous=True))
    assert method.decide(reports(5, [0.5, 0.4])).exploits[0].target == 1
    method.decide(reports(10, [0.9, 0.8]))
    # 0.45 is between the others' scores at step 5; at step 10 both were better. Run 1 has had none at step 5 since.
    decision = method.decide(reports(5, [0.45, 0.85], first=2))
    assert [exploit.target for exploit in decision.exploits] == [2]
    assert decision.exploits[0].source in (0, 1, 3)


@pytest.mark.slow
def test_in_processes_of_which_one_is_killed_the_winner_can_be_replayed(tmp_path, capsys):
    pytest.importorskip("ray")
    out = tmp_path / "run"
    process = start(*SEARCH, f"--out={out}")
    saved = out / "checkpoints" / "search.pt"
    hosts = wait(process, lambda: len(found := hosts_of(process.pid)) == 2 and found)
    wait(process, saved.exists)
    os.kill(hosts[1], signal.SIGKILL)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors and "raylet" not in printed + errors and "1 process lost" in printed
    records = records_of(out)
    assert len(records) == 5 and {record["cost"]["steps"] for record in records} == {30 * 8}
    assert main(["replay", str(out)]) == 0
    assert "reaches every recorded metric" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method=asha"], "--asynchronous: asha decides on all runs together; pbt can do without"),
        (["--method=pb2"], "--asynchronous: pb2 decides on all runs together"),
        (["--steps=40", "--interval=7"], "--interval 7: asynchronous training needs a divisor of the 40 steps"),
    ],
)
def test_what_cannot_be_asynchronous_is_refused(options, message, capsys, tmp_path):
    command = ["search", "tests/tiny.py:Tiny", "--asynchronous", "--engine=ray", "--members=4"]
    assert main([*command, f"--out={tmp_path / 'run'}", *options]) == 2
    assert message in capsys.readouterr().err
