"""`slurm/search.sbatch`: one search on two nodes."""

from __future__ import annotations

import json

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
    return not any(
        "ray" in line and "pytest" not in line for node in ("node1", "node2") for line in cluster.processes(node)
    )


def check_same(directory, alone) -> None:
    schedules = [
        [json.loads(line) for line in (path / "schedule.jsonl").read_text().splitlines()] for path in (directory, alone)
    ]
    assert [(e["step"], e["target"], e["source"]) for e in schedules[0]] == [
        (e["step"], e["target"], e["source"]) for e in schedules[1]
    ]
    found, expected = (json.loads((path / "summary.json").read_text()) for path in (directory, alone))
    assert found == expected


def test_a_search_uses_both_nodes_and_leaves_nothing_behind(jobs, scripts, alone):
    job = jobs.submit(f"{ONE} --nodes=2 --mem=3G", scripts / "search.sbatch", *SEARCH)
    [ended] = jobs.finish(job, seconds=180)
    ray = jobs.directory / "run" / "ray.log"
    assert ended["ExitCode"] == "0:0", jobs.output(job) + (ray.read_text() if ray.exists() else "")
    assert "2 shards on 2 nodes (10.77.0.11, 10.77.0.12)" in jobs.output(job)
    check_same(jobs.directory / "run", alone)
    jobs.cluster.until(lambda: no_ray_left(jobs.cluster), 20, "no process of Ray on any node")


@pytest.mark.parametrize("place", ["head", "worker"])
def test_a_search_survives_the_death_of_a_node(place, jobs, scripts, alone):
    options = f"{ONE} --nodes=2 --mem=3G --export=ALL,SLEEP=0.3"
    job = jobs.submit(options, scripts / "search.sbatch", *SEARCH)
    saved = jobs.directory / "run" / "checkpoints" / "search.pt"
    jobs.cluster.until(saved.exists, 90, "a checkpoint")
    node = {"head": "node1", "worker": "node2"}[place]
    jobs.cluster.crash(node)
    jobs.cluster.until(lambda: jobs.one(job)["Restarts"] == "1", 60, "requeued")
    jobs.cluster.revive(node)
    [ended] = jobs.finish(job, seconds=120)
    assert ended["ExitCode"] == "0:0", jobs.output(job)
    check_same(jobs.directory / "run", alone)
