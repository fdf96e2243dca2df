"""Submits jobs as a user would and follows them by `scontrol show job`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster

_OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
_numbers = itertools.count()


class Jobs:
    """Jobs that one test submits. `directory` is shared by the nodes, and the jobs' working directory."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster, self.root = cluster, root
        self.directory = cluster.base / "work" / str(next(_numbers))
        self.directory.mkdir(parents=True)

    def submit(self, options: str, *command: str | Path) -> str:
        """Number of the submitted job: `sbatch OPTIONS COMMAND...`."""
        answer = self.cluster.run("sbatch", "--parsable", *options.split(), *command, cwd=self.directory)
        return answer.strip()

    def all(self, job: str) -> list[dict[str, str]]:
        """What SLURM says of a job, or of every task of an array."""
        lines = self.cluster.run("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines if line]

    def one(self, job: str) -> dict[str, str]:
        """The same of a job that is no array."""
        [found] = self.all(job)
        return found

    def state(self, job: str) -> str:
        """The job's state, such as RUNNING."""
        return self.one(job)["JobState"]

    def finish(self, job: str, seconds: float = 90) -> list[dict[str, str]]:
        """Wait until the job, or every task of the array, has ended for good."""

        def over() -> list[dict[str, str]] | None:
            found = self.all(job)
            return found if {each["JobState"] for each in found} <= _OVER else None

        ended: list[dict[str, str]] = self.until(job, over, seconds, "it ends")
        return ended

    def until(self, job: str, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true value of `condition`; if none comes in time, everything about the job is in the message."""
        try:
            return self.cluster.until(condition, seconds, f"job {job}: {what}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.everything(job)}") from None

    def output(self, job: str) -> str:
        """What the job, or every task of the array, printed."""
        logs = sorted([*self.directory.glob(f"*-{job}.out"), *self.directory.glob(f"*-{job}_*.out")])
        return "\n".join(log.read_text() for log in logs)

    def everything(self, job: str) -> str:
        """What there is to know when a test fails: SLURM's view of jobs, steps and nodes, processes, and all logs."""
        views = ("squeue", "squeue --steps", "sinfo --Node --long", f"scontrol show job {job}", "scontrol show step")
        parts = [f"$ {view}\n{self.cluster.run(*view.split())}" for view in views]
        parts += [f"== processes of {node}\n" + "\n".join(self.cluster.processes(node)) for node in self.cluster.alive]
        logs = sorted([*self.directory.glob("*.out"), *self.directory.rglob("ray.log")])
        return "\n".join([*parts, *(f"== {log.name}\n{log.read_text()}" for log in logs)])

    def cancel_all(self) -> None:
        """End whatever is left."""
        self.cluster.run("scancel", "--user=root")
        listing = ("squeue", "--noheader", "--format=%i")
        self.cluster.until(lambda: not self.cluster.run(*listing).strip(), 30, "no job left")
