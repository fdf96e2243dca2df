"""A run of a finished search is trained again bit for bit: beside the same members, in the same rows."""

import itertools
import json

import pytest

from mtl.files.lineage import read_events
from mtl.search.methods import MethodOptions, Problem, find_method
from mtl.search.objective import Objective
from mtl.search.replay import differences, rerun, retrace, rounding
from mtl.search.rerun import Rerun
from mtl.search.search import Search
from mtl.search.shards.sharded import ShardedCohort
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import open_run_directory
from mtl.train import Cohort, Settings, Stopped
from tests.ray.here import Here
from tests.tiny import Tiny
from tests.written import records_of

LENGTH, INTERVAL = 24, 4


class Once:
    """Stops a search after so many segments."""

    def __init__(self, segments):
        self.left = segments

    def __call__(self):
        self.left -= 1
        return self.left == 0


def whole(members):
    return Cohort(Tiny(), Tiny().load(), members, Settings(steps=LENGTH, batch_size=32), told=True)


def searched(path, method, hosts=None, ranges=("lr=1e-3:0.3:log",), stop=None, **options):
    """A search in this process, or on `hosts`: what is known of it afterwards."""
    space = build_space(Tiny(), ["gradnorm", "uncertainty"], read_options(ranges))
    problem = Problem(space, LENGTH, INTERVAL, 1)

    def make(members):
        return whole(members) if hosts is None else ShardedCohort(hosts, members, print)

    def carried_out(stop):
        made = find_method(method)(problem, MethodOptions(**{"members": 5, **options}))
        search = Search("search", "", made, problem, Objective(["product/mae"], Tiny()), make)
        with open_run_directory(path, resume=True) as directory:
            return search, search.run(directory, "tiny", should_stop=stop), read_events(directory.schedule_path)

    if stop is not None:
        with pytest.raises(Stopped):
            carried_out(stop)
    return carried_out(lambda: False)


def again(search, events, number, path):
    """The record of a run, trained again; by way of the files, as a command does it."""
    lines = records_of(path)
    lines = {record["trial"]: record for record in lines}
    part = Rerun(events, lines, number)
    asynchronous = search.method.options.asynchronous
    curves = {run: json.loads((path / lines[run]["history"]).read_text()) for run in part.runs if asynchronous}
    return rerun(search.problem, part, number, search.objective, whole, curves if asynchronous else None)


@pytest.mark.parametrize("shards", [None, 3])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("pbt", {}),
        ("pbt", {"ranges": ("lr=1e-2,1e30",), "resample": 0.5}),  # with members that are not finite beside others
        ("random", {"trials": 12}),
        ("asha", {"trials": 9}),
        ("hyperband", {}),
    ],
)
def test_every_run_is_trained_again_bit_for_bit(method, options, shards, tmp_path):
    hosts = Here(shards, steps=LENGTH) if shards else None
    search, records, events = searched(tmp_path, method, hosts, **options)
    for number in {0, len(records) // 2, len(records) - 1, search.best[0].number}:
        found = again(search, events, number, tmp_path)
        apart = differences(records[number], found)
        assert set(apart.values()) == {0.0} and len(apart) > 4
        for key in ("best_step", "hyperparameters", "seed", "status", "skipped", "selection"):
            assert found[key] == records[number][key]
        assert found["cost"]["steps"] == records[number]["cost"]["steps"]


@pytest.mark.parametrize("stop", [None, 5])
def test_shards_that_do_not_wait_for_each_other_are_replayed_in_their_order(stop, tmp_path):
    hosts = Here(3, [1.0, 2.5, 1.7], steps=LENGTH)
    stop = None if stop is None else Once(stop)
    search, records, events = searched(tmp_path, "pbt", hosts, stop=stop, members=6, asynchronous=True)
    assert any(event.source_step not in (None, event.step) for event in events)
    for number in (0, 3, 5):
        assert set(differences(records[number], again(search, events, number, tmp_path)).values()) == {0.0}


def test_only_what_a_run_depends_on_is_trained(tmp_path):
    _, records, events = searched(tmp_path, "random", trials=12)
    named = {record["trial"]: record for record in records}
    assert [Rerun(events, named, number).runs for number in (0, 7, 11)] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10, 11],
    ]


def traced(search, events, best, ulps=0):
    lr = Settings().lr
    return retrace(search.problem, events, best, search.objective, whole, lr=lr, ulps=ulps)


@pytest.mark.parametrize("ranges", [("lr=1e-3:0.3:log",), ("lr=default",)])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_runs_that_are_rounded_otherwise_differ_however_few_there_are(members, ranges, tmp_path):
    method = "pbt" if members > 1 else "random"
    search, records, events = searched(tmp_path, method, members=members, ranges=ranges)
    best = records[search.best[0].number]
    alone = [traced(search, events, best, ulps) for ulps in (0, 1, -1)]
    for one, other in itertools.combinations(alone, 2):
        assert 0 < max(differences(one, other).values()) < 1e-3
    assert max(differences(best, alone[0]).values()) < 1e-5


def test_where_it_cannot_be_exact_it_is_said_and_rounding_is_the_measure(tmp_path):
    """A search that went on with other shards than it began with."""
    search, records, events = searched(tmp_path, "pbt")
    named = {record["trial"]: record for record in records}
    named[0] = {**named[0], "shards": 3}
    with pytest.raises(ValueError, match="another number of shards"):
        Rerun(events, named, 1)
    best = records[search.best[0].number]
    alone = [traced(search, events, best, ulps) for ulps in (0, 1, -1)]
    nearest, allowed = rounding(best, alone[0], alone, 1e-5)
    assert all(nearest[name] <= allowed[name] for name in nearest)
    wrong = json.loads(json.dumps(best))
    wrong["validation"]["product"]["mae"] += 0.01
    nearest, allowed = rounding(wrong, alone[0], alone, 1e-5)
    assert nearest["validation/product/mae"] > allowed["validation/product/mae"]
