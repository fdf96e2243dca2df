"""The batch scripts of slurm/ as a user submits them: arrays, time limits, preemption, dead nodes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.slurm.jobs import Jobs

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
SLOW = f"{ROOT}/tests/slurm/slow.py:Slow"
ONE = "--cpus-per-task=1 --mem=1G"
# 48 steps, and a checkpoint after every eighth.
TRAINING = ["--strategy=famo", "--epochs=6", "--wandb=disabled"]


@pytest.fixture(scope="module")
def uninterrupted(cluster) -> Path:
    """What a training run ends with that nobody stops."""
    out = cluster.base / "uninterrupted"
    cluster.run("mtl", "train", SLOW, *TRAINING, f"--out={out}")
    return out


def start_slow_training(jobs: Jobs, scripts: Path, options: str, seconds: float) -> str:
    """A training job that takes at least `seconds`, once its first checkpoint is written."""
    # Of one process, however many GPUs its nodes have: then its numbers are those of any other, bit for bit.
    export = f"--export=ALL,SLEEP={seconds / 48},MTL_PROCESSES=1"
    job = jobs.submit(f"{ONE} {export} {options}", scripts / "train.sbatch", SLOW, *TRAINING, "--out=run")
    checkpoints = jobs.directory / "run" / "checkpoints"
    jobs.until(job, lambda: list(checkpoints.glob("*.pt")), 60, "a checkpoint")
    return job


def check_resumed(jobs: Jobs, job: str, uninterrupted: Path) -> None:
    """The job ended well after more than one start, and with the very numbers of the uninterrupted run."""
    [ended] = jobs.finish(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), jobs.everything(job)
    assert int(ended["Restarts"]) >= 1
    assert "--resume" in jobs.output(job)
    assert (jobs.directory / "run" / "summary.json").read_bytes() == (uninterrupted / "summary.json").read_bytes()
    assert len((jobs.directory / "run" / "results.jsonl").read_text().splitlines()) == 1


def test_an_array_over_seeds_has_gpus_of_its_own_requeues_one_task_and_gathers(jobs, scripts):
    study = [SLOW, "--strategies", "equal", "uncertainty", "--steps=8", "--wandb=disabled"]
    options = f"{ONE} --nodelist=node1 --array=0-1"
    array = jobs.submit(f"{options} --export=ALL,SLEEP=0.2", scripts / "compare.sbatch", *study, "--out=study")
    jobs.until(array, (jobs.directory / "study" / "seed-1" / "config.yaml").exists, 60, "seed 1 started")
    jobs.cluster.run("scancel", "--batch", "--signal=USR1", f"{array}_1")
    ended = jobs.finish(array)
    assert {(each["JobState"], each["ExitCode"]) for each in ended} == {("COMPLETED", "0:0")}
    assert {each["ArrayTaskId"]: each["Restarts"] for each in ended} == {"0": "0", "1": "1"}
    assert sorted(set(re.findall(r"^GPU (\d)$", jobs.output(array), re.MULTILINE))) == ["0", "1"]
    jobs.cluster.run("mtl", "report", "study", cwd=jobs.directory)
    jobs.cluster.run("mtl", "compare", *study, "--seeds=2", "--out=together", cwd=jobs.directory)
    gathered, together = (
        json.loads((jobs.directory / name / "summary.json").read_text()) for name in ("study", "together")
    )
    assert gathered == together


def test_an_array_over_strategies_survives_one_that_fails(jobs, scripts):
    study = ["--by-strategy", SLOW, "--strategies", "equal", "gradnrom", "famo", "--steps=8", "--seeds=1"]
    array = jobs.submit(f"{ONE} --array=0-2", scripts / "compare.sbatch", *study, "--wandb=disabled", "--out=study")
    gather = jobs.submit(f"--dependency=afterany:{array} --output=gather-%j.out --wrap", "mtl report study")
    assert sorted(each["ExitCode"] for each in jobs.finish(array)) == ["0:0", "0:0", "2:0"]
    assert "did you mean gradnorm" in jobs.output(array)
    assert jobs.finish(gather)[0]["ExitCode"] == "0:0", jobs.output(gather)
    summary = json.loads((jobs.directory / "study" / "summary.json").read_text())
    assert [*summary["strategies"]] == ["equal", "famo"]
    assert {task: each["runs"] for task, each in summary["single_task"].items()} == {"sign": 1, "product": 1}


def test_the_time_limit_ends_a_segment_and_the_job_continues_from_the_queue(jobs, scripts, uninterrupted):
    # SLURM looks at the limits every 30 seconds, and warns up to that much early: here 5 to 35 seconds after the start.
    # Earlier it could warn a script that is not there yet.
    job = start_slow_training(jobs, scripts, "--time=1 --signal=B:USR1@25", seconds=40)
    jobs.until(job, lambda: jobs.one(job)["Restarts"] == "1", 60, "requeued")
    jobs.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    check_resumed(jobs, job, uninterrupted)
    assert len((jobs.directory / "run" / "requeues.log").read_text().splitlines()) == 1


def test_a_preempted_job_gives_way_and_continues_afterwards(jobs, scripts, uninterrupted):
    job = start_slow_training(jobs, scripts, "--partition=low --nodelist=node1 --exclusive", seconds=20)
    urgent = jobs.submit("--partition=main --nodelist=node1 --exclusive --wrap", "sleep 1")
    # The grace of the partition is longer: the job has left of its own accord.
    assert jobs.finish(urgent, seconds=50)[0]["JobState"] == "COMPLETED"
    assert "preempted; requeued" in jobs.output(job)
    assert (jobs.directory / "run" / "requeues.log").read_text().split()[2:] == ["preempted"]
    check_resumed(jobs, job, uninterrupted)


def test_a_dead_node_costs_at_most_a_segment(jobs, scripts, uninterrupted):
    job = start_slow_training(jobs, scripts, "", seconds=12)
    dead = jobs.one(job)["NodeList"]
    jobs.cluster.crash(dead)
    try:
        check_resumed(jobs, job, uninterrupted)
        assert jobs.one(job)["NodeList"] != dead
    finally:
        jobs.cluster.revive(dead)


def test_mtl_submit_queues_the_script_that_comes_with_the_package(jobs, uninterrupted):
    command = ["mtl", "submit", "train", *ONE.split(), "--gres=gpu:2", "--", SLOW, *TRAINING, "--out=run"]
    told = jobs.cluster.run(*command, cwd=jobs.directory)
    job = told.split()[1].rstrip(":")
    [ended] = jobs.finish(job)
    assert ended["ExitCode"] == "0:0", jobs.everything(job)
    assert "GPU 0,1" in jobs.output(job)
    assert f"mtl-train-{job}.out" in told and (jobs.directory / f"mtl-train-{job}.out").exists()
    assert "--nproc-per-node 2" in jobs.output(job), "a process for each GPU"
    [ours], [alone] = (
        [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        for out in (jobs.directory / "run", uninterrupted)
    )
    assert (ours["status"], ours["digests"], ours["cost"]["steps"]) == (
        "done",
        alone["digests"],
        alone["cost"]["steps"],
    )
    # Each process draws what it drops out by itself, so the run is like that of one, and not equal to it.
    assert ours["metrics"]["product"] == pytest.approx(alone["metrics"]["product"], rel=0.05)


def test_a_cancelled_job_saves_its_state_and_stays_cancelled(jobs, scripts):
    job = start_slow_training(jobs, scripts, "", seconds=60)
    jobs.cluster.run("scancel", job)
    [ended] = jobs.finish(job)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0")
    assert "mtl: stopped" in jobs.output(job)
    assert list((jobs.directory / "run" / "checkpoints").glob("*.pt"))


def test_what_common_sh_loads_reaches_mtl_on_a_cluster_that_exports_nothing(jobs, scripts):
    loaded = "".join(f"export {name}={jobs.cluster.environment[name]}\n" for name in ("PATH", "PYTHONPATH"))
    own = jobs.directory / "slurm"
    own.mkdir()
    (own / "train.sbatch").write_text((scripts / "train.sbatch").read_text())
    (own / "common.sh").write_text(loaded + (scripts / "common.sh").read_text())
    job = jobs.submit(f"{ONE} --export=NONE", own / "train.sbatch", SLOW, "--steps=8", "--wandb=disabled", "--out=run")
    [ended] = jobs.finish(job)
    assert ended["ExitCode"] == "0:0", jobs.everything(job)
