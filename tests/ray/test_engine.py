"""`--engine ray`: the same search in several processes, real ones."""

from __future__ import annotations

import json
import os
import signal

import pytest

from mtl.cli.main import main
from mtl.files.yaml_files import read_values
from mtl.search.shards.sharded import ShardedCohort
from mtl.train import Cohort, Member, Settings
from tests.processes import finish, hosts_of, start, wait
from tests.ray.here import Here
from tests.tiny import Tiny
from tests.written import events_of, summary_of

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
    whole = Cohort(Tiny(), hosts.splits, _members(5), Settings(steps=40, batch_size=32), told=True)
    for cohort in (sharded, whole):
        cohort.advance(5)
        cohort.evaluate()
        cohort.remember([0, 1, 3])
        cohort.exploit({0: 4, 1: 3, 2: 4}, [1])  # to another shard and, where there are few, within one
        cohort.replace({0: Member("gradnorm", 0, {"lr": 0.02}), 3: Member("gradnorm", 3, {"lr": 0.001})})
        cohort.advance(5)
        cohort.keep([4, 0, 3])
        cohort.add(_members(3, first=10))
        cohort.advance(5)
    state = sharded.state_dict()
    again = ShardedCohort(Here(1), _members(1), print)
    again.load_state_dict(state)
    spread = ShardedCohort(Here(shards), _members(1), print)
    spread.load_state_dict(whole.state_dict())
    gathered = Cohort(Tiny(), hosts.splits, _members(1), Settings(steps=40, batch_size=32), told=True)
    gathered.load_state_dict(state)
    for cohort in (sharded, whole, again, spread, gathered):
        cohort.advance(5)
        cohort.evaluate()
        cohort.remember([1, 5])
        cohort.exploit({0: 5, 4: 1})
        cohort.advance(5)
    assert _selections(sharded) == pytest.approx(_selections(whole), abs=1e-6)
    assert _selections(again) == _selections(sharded)
    for other in (spread, gathered):  # checkpoints of one engine are gone on from by the other
        assert _selections(other) == pytest.approx(_selections(whole), abs=1e-6)
    assert sum(bool(place.members) for place in spread.places()) == shards
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
        (["--gpus-per-shard=0.5"], "--gpus-per-shard 0.5: it is an option of --engine ray"),
        (["--engine=ray", "--shards=0"], "--shards 0: must be at least 1"),
        (["--engine=ray", "--gpus-per-shard=2"], "--gpus-per-shard 2: must be in (0, 1]"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, capsys, tmp_path):
    assert main([*SEARCH, *options, f"--out={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_what_only_the_cluster_can_tell_is_refused_and_leaves_no_run_behind(on_cluster, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "run"
    arguments = [*SEARCH, "--device=cpu", f"--out={out}"]
    errors = on_cluster(*arguments, "--engine=ray", "--gpus-per-shard=0.5", code=2)
    assert "--gpus-per-shard 0.5: the search trains on no GPU" in errors
    assert not any(path.name != ".lock" for path in out.iterdir())
    assert main([*arguments, "--interval=40"]) == 0  # no --resume needed


def test_a_process_that_is_lost_when_runs_have_ended_costs_a_segment(tmp_path, monkeypatch):
    """Other runs go on, and what had ended ends again."""
    pytest.importorskip("ray")
    from tests.ray.pretend import Ray, pretend

    search = ["search", "tests/tiny.py:Tiny", "--strategy=gradnorm", "--method=asha", "--members=5", "--steps=20"]
    search += ["--interval=5", "--engine=ray", "--wandb=disabled", "--quiet", "--shards=2"]
    ray = pretend(monkeypatch, Ray(1))
    assert main([*search, f"--out={tmp_path / 'whole'}"]) == 0
    ray = pretend(monkeypatch, Ray(1, dies=lambda _number, name: name in ("keep", "drop") and ray.lost == 0))
    assert main([*search, f"--out={tmp_path / 'lost'}"]) == 0
    assert ray.lost == 1 and _files(tmp_path / "lost") == _files(tmp_path / "whole")


def _files(out):
    schedule = events_of(out)
    return schedule, summary_of(out)


@pytest.mark.slow
def test_one_shard_gives_the_search_of_this_process_and_killed_processes_change_nothing(tmp_path):
    pytest.importorskip("ray")
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*SEARCH, f"--out={here}"]) == 0
    process = start(*SEARCH, "--engine=ray", "--shards=1", f"--out={there}")
    saved = there / "checkpoints" / "search.pt"
    [host] = wait(process, lambda: hosts_of(process.pid))
    wait(process, saved.exists)
    os.kill(host, signal.SIGKILL)
    errors = finish(process)
    assert "; going on from the last segment" in errors and "Traceback" not in errors
    assert _files(there) == _files(here)


@pytest.mark.slow
def test_tuned_comparisons_are_the_same_with_one_shard(on_cluster, tmp_path):
    arguments = ["compare", "tests/tiny.py:Tiny", "--strategies", "equal", "gradnorm", "--seeds=2", "--tune=pbt"]
    arguments += ["--budget=4", "--steps=16", "--no-single-task", "--wandb=disabled", "--quiet"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*arguments, f"--out={here}"]) == 0
    errors = on_cluster(*arguments, "--engine=ray", "--shards=1", f"--out={there}")
    assert errors.count("Ray: 1 shard on 1 node") == 1, "one set of processes for all searches"
    assert _files(there) == _files(here)
    assert _names(there) == _names(here)
    for path in ("results.jsonl", "config.yaml"):
        assert _without_clocks(there / path) == _without_clocks(here / path)


def _names(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def _without_clocks(path):
    if path.suffix == ".yaml":
        # What was typed names the engine; everything that it came to is the same.
        return {key: value for key, value in read_values(path).items() if key not in ("study", "options")}
    return [{**json.loads(line), "cost": None} for line in path.read_text().splitlines()]


LACKING = """
import os
from tests.tiny import Tiny as Whole


class Tiny(Whole):
    def load(self):
        if "ray::" in open("/proc/self/cmdline").read():
            raise FileNotFoundError("no data on this node: " + "x" * 300 + " END")
        return super().load()
"""


@pytest.mark.slow
def test_a_process_that_cannot_be_made_ends_the_search_at_once_with_its_whole_reason(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "lacking.py").write_text(LACKING)
    arguments = ["search", tmp_path / "lacking.py:Tiny", *SEARCH[2:], "--engine=ray", "--shards=1", "--device=cpu"]
    process = start(*arguments, f"--out={tmp_path / 'run'}")
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 1 and "going on" not in errors, errors
    assert "no data on this node" in errors.partition("cannot be made: ")[2].splitlines()[0] and "x END" in errors, (
        errors
    )


@pytest.mark.slow
def test_a_long_temporary_directory_is_no_hindrance(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    finish(start(*SEARCH, "--interval=40", "--engine=ray", "--shards=1", f"--out={tmp_path / 'run'}"))


@pytest.mark.slow
def test_ray_that_does_not_start_is_said_in_a_line_and_leaves_no_run_behind(tmp_path, monkeypatch, capsys):
    ray = pytest.importorskip("ray")

    def late(**_options):
        raise Exception("node timed out\nduring startup")  # as Ray does

    monkeypatch.setattr(ray, "init", late)
    out = tmp_path / "run"
    assert main([*SEARCH, "--engine=ray", f"--out={out}"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "does not start" in line]
    assert lines == ["mtl: --engine ray: Ray does not start on this machine: node timed out during startup"]
    assert not (out / "config.yaml").exists()
