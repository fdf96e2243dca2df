"""`slurm/search.sbatch`: one search on two nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.slurm.test_jobs import ONE, SLOW

pytestmark = pytest.mark.slurm

SEARCH = [SLOW, "--strategy=gradnorm", "--members=6", "--epochs=6", "--wandb=disabled", "--device=cpu", "--out=run"]


@pytest.fixture(scope="module")
def alone(cluster):
    """The same search by one process."""
    arguments = [argument for argument in SEARCH if not argument.startswith("--out")]
    cluster.run("mtl", "search", *arguments, f"--out={cluster.base / 'alone'}")
    return cluster.base / "alone"


def no_ray_left(cluster) -> bool:
    return not any("ray" in line for node in cluster.alive for line in cluster.processes(node))


def nothing_left(jobs, job) -> None:
    """No process and no directory of Ray, or of its trials, is on any node."""

    def left() -> list[str]:
        nodes = jobs.cluster.base / "nodes"
        patterns = ("ray*", "mtl-shard-*")
        return [str(path) for n in jobs.cluster.alive for each in patterns for path in (nodes / n).glob(each)]

    jobs.until(job, lambda: no_ray_left(jobs.cluster) and not left(), 40, "no process and no directory of Ray")


def check_same(directory, alone) -> None:
    schedules = [
        [json.loads(line) for line in (path / "schedule.jsonl").read_text().splitlines()] for path in (directory, alone)
    ]
    assert [(e["step"], e["target"], e["source"]) for e in schedules[0]] == [
        (e["step"], e["target"], e["source"]) for e in schedules[1]
    ]
    found, expected = (json.loads((path / "summary.json").read_text()) for path in (directory, alone))
    assert found == expected


def start(jobs, scripts, *, partition="main", sleep="0", path="") -> str:
    options = f"{ONE} --nodes=2 --mem=3G --partition={partition} --export=ALL,SLEEP={sleep}{path}"
    return jobs.submit(options, scripts / "search.sbatch", *SEARCH)


def start_slow(jobs, scripts, partition="main") -> str:
    """A search of a quarter of a minute, once its first checkpoint is written."""
    job = start(jobs, scripts, partition=partition, sleep="0.1")
    saved = jobs.directory / "run" / "checkpoints" / "search.pt"
    jobs.until(job, saved.exists, 90, "a checkpoint")
    return job


def check_ended(jobs, job, alone, restarts=1) -> None:
    """The job ended well after at least so many restarts, like the search of one process, and took Ray with it."""
    [ended] = jobs.finish(job, seconds=150)
    assert ended["ExitCode"] == "0:0" and int(ended["Restarts"]) >= restarts, jobs.everything(job)
    check_same(jobs.directory / "run", alone)
    nothing_left(jobs, job)


def test_a_search_uses_both_nodes_and_leaves_nothing_behind(jobs, scripts, alone):
    job = start(jobs, scripts)
    check_ended(jobs, job, alone, restarts=0)
    assert "2 shards on 2 nodes (10.77.0.11, 10.77.0.12)" in jobs.output(job)


@pytest.mark.parametrize("place", ["head", "worker"])
def test_a_search_survives_the_death_of_a_node(place, jobs, scripts, alone):
    job = start_slow(jobs, scripts)
    node = {"head": "node1", "worker": "node2"}[place]
    jobs.cluster.crash(node)
    jobs.until(job, lambda: jobs.one(job)["Restarts"] == "1", 60, "requeued")
    jobs.cluster.revive(node)
    check_ended(jobs, job, alone)


def test_a_search_whose_time_is_up_continues_from_the_queue(jobs, scripts, alone):
    job = start_slow(jobs, scripts)
    jobs.cluster.run("scancel", "--batch", "--signal=USR1", job)
    jobs.until(job, lambda: jobs.one(job)["Restarts"] == "1", 60, "requeued")
    nothing_left(jobs, job)
    check_ended(jobs, job, alone)
    assert "time is up; requeued, 1 of at most 5 times" in jobs.output(job)


def test_a_preempted_search_gives_way_and_continues_afterwards(jobs, scripts, alone):
    job = start_slow(jobs, scripts, partition="low")
    urgent = jobs.submit("--partition=main --nodes=2 --exclusive --wrap", "sleep 12")
    jobs.until(job, lambda: jobs.state(urgent) == "RUNNING", 60, "the urgent job runs")
    nothing_left(jobs, job)
    check_ended(jobs, job, alone)
    assert "preempted; requeued" in jobs.output(job)


def test_ray_that_ends_on_one_node_ends_the_job_at_once(jobs, scripts):
    broken, working = jobs.directory / "ray", Path(sys.executable).parent / "ray"
    broken.write_text(f'#!/bin/bash\n[ "$(hostname)" = node1 ] || exit 3\nexec {working} "$@"\n')
    broken.chmod(0o755)
    job = start(jobs, scripts, path=f",PATH={jobs.directory}:{jobs.cluster.environment['PATH']}")
    [ended] = jobs.finish(job, seconds=60)
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "1:0", "0"), jobs.everything(job)
    assert "Ray ended on a node with 3; see run/ray.log" in jobs.output(job)
    nothing_left(jobs, job)


def test_a_node_that_does_not_answer_sends_the_search_back_to_the_queue(jobs, scripts, alone):
    with jobs.cluster.unreachable("node1", "node2"):
        job = start(jobs, scripts)
        jobs.until(job, lambda: jobs.one(job)["Restarts"] == "1", 60, "requeued")
    check_ended(jobs, job, alone)
    assert "SLURM did not start Ray on a node" in jobs.output(job)
    assert "not started; requeued, 1 of at most 5 times" in jobs.output(job)


def test_a_cancelled_search_leaves_nothing_on_any_node(jobs, scripts):
    job = start_slow(jobs, scripts)
    jobs.cluster.run("scancel", job)
    [ended] = jobs.finish(job)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0")
    nothing_left(jobs, job)


def test_a_search_whose_driver_is_killed_goes_on_from_the_queue(jobs, scripts, alone):
    job = start_slow(jobs, scripts)
    jobs.cluster.kill("node1", "bin/mtl search")
    check_ended(jobs, job, alone)
    assert "mtl was killed; requeued, 1 of at most 5 times" in jobs.output(job)
