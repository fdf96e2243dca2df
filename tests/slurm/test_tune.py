"""`slurm/search.sbatch ... --engine tune`: one search by Ray Tune on two nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.jobs import Jobs
from tests.slurm.test_jobs import ONE, SLOW
from tests.slurm.test_search import nothing_left

pytestmark = pytest.mark.slurm

MEMBERS, STEPS, INTERVAL = 4, 48, 6
SEARCH = [SLOW, "--engine=tune", "--strategy=gradnorm", f"--members={MEMBERS}", f"--steps={STEPS}"]
SEARCH += [f"--interval={INTERVAL}", "--wandb=disabled", "--device=cpu", "--out=run"]


def start(jobs: Jobs, scripts: Path, *extra: str, sleep: float) -> str:
    given = f"{ONE} --nodes=2 --mem=3G --export=ALL,SLEEP={sleep}"
    return jobs.submit(given, scripts / "search.sbatch", *SEARCH, *extra)


def start_slow(jobs: Jobs, scripts: Path, *extra: str, trials: int = MEMBERS) -> str:
    """A search of some ten seconds of training, once each trial has reported twice."""
    job = start(jobs, scripts, *extra, sleep=0.1)
    goes(jobs, job, lambda: len(reports(jobs)) == trials and min(reports(jobs)) >= 2, "two reports of each trial")
    return job


def goes(jobs: Jobs, job: str, condition: Callable[[], bool], what: str) -> None:
    """Wait for something of a job that is to go on meanwhile."""

    def found() -> bool:
        assert jobs.state(job) in ("PENDING", "CONFIGURING", "RUNNING"), jobs.everything(job)
        return condition()

    jobs.until(job, found, 120, what)


def reports(jobs: Jobs) -> list[int]:
    """How often each trial has reported: each report is a checkpoint, numbered from 0."""
    trials = (jobs.directory / "run" / "tune").glob("trial-*")
    newest = [max((int(path.name[-6:]) for path in trial.glob("checkpoint_*")), default=-1) for trial in trials]
    return [number + 1 for number in newest]


def check_ended(jobs: Jobs, job: str, restarts: int, reported: int) -> None:
    """The job ended well after so many restarts, with exploits after a number of reports, and took Ray with it."""
    [ended] = jobs.finish(job, seconds=240)
    assert ended["ExitCode"] == "0:0" and int(ended["Restarts"]) >= restarts, jobs.everything(job)
    run = jobs.directory / "run"
    records = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    assert [(record["status"], record["cost"]["steps"]) for record in records] == [("done", STEPS)] * MEMBERS
    assert len({record["seed"] for record in records}) == MEMBERS
    events = [json.loads(line) for line in (run / "schedule.jsonl").read_text().splitlines()]
    exploits = [event["step"] for event in events if event["source"] not in (None, event["target"])]
    assert max(exploits) > reported * INTERVAL, events
    assert (run / "report.html").exists()
    nothing_left(jobs, job)


def training_on(jobs: Jobs) -> set[str]:
    """Nodes on which a trial is being trained."""
    running = re.compile(r"ray::\w+\.train")
    return {node for node in jobs.cluster.alive if any(map(running.match, jobs.cluster.processes(node)))}


def test_trials_of_ray_tune_train_on_both_nodes(jobs, scripts):
    # Shards do not pause: where a segment is shorter than the start of a process, those that pause share the first one.
    job = start(jobs, scripts, "--shards=2", "--method=pbt", "--gpus-per-trial=0", sleep=0.3)
    goes(jobs, job, lambda: training_on(jobs) == {"node1", "node2"}, "trials on both nodes at a time")
    check_ended(jobs, job, restarts=0, reported=1)


@pytest.mark.parametrize("place", ["head", "worker"])
def test_trials_of_ray_tune_go_on_after_the_death_of_a_node(place, jobs, scripts):
    job = start_slow(jobs, scripts)
    node = {"head": "node1", "worker": "node2"}[place]
    jobs.cluster.crash(node)
    reported = max(reports(jobs))
    # Without a worker the trials go on where the head is, until SLURM notices and puts the job back into the queue.

    def gone_on() -> bool:
        return jobs.one(job)["Restarts"] == "1" or (place == "worker" and jobs.state(job) == "COMPLETED")

    jobs.until(job, gone_on, 90, "requeued, or ended")
    jobs.cluster.revive(node)
    check_ended(jobs, job, 1 if place == "head" else 0, reported)


def test_a_search_by_ray_tune_whose_time_is_up_continues_from_the_queue(jobs, scripts):
    job = start_slow(jobs, scripts)
    jobs.cluster.run("scancel", "--batch", "--signal=USR1", job)
    jobs.until(job, lambda: jobs.one(job)["Restarts"] == "1", 90, "requeued")
    reported = max(reports(jobs))
    nothing_left(jobs, job)
    check_ended(jobs, job, 1, reported)
    assert "time is up; requeued, 1 of at most 5 times" in jobs.output(job)


def test_a_cancelled_search_by_ray_tune_leaves_nothing_on_any_node(jobs, scripts):
    job = start_slow(jobs, scripts, "--shards=2", "--method=pbt", trials=2)  # which have directories of their own
    jobs.cluster.run("scancel", job)
    [ended] = jobs.finish(job)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0")
    nothing_left(jobs, job)
