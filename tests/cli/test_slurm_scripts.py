"""What the batch scripts decide, with SLURM's, W&B's and mtl's own commands replaced. On a real SLURM: tests/slurm/."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mtl.cli.submitting import standalone

ROOT = Path(__file__).parents[2]

SCONTROL = f"""#!/bin/bash
if [ "$1" = requeue ]; then echo "$2" >>requeued; exit; fi
if [ "$2" = hostnames ]; then printf 'localhost\\nnode2\\n'; exit; fi
command="{ROOT}/slurm/train.sbatch bench ./mine.py:Mine"
times="PreemptTime=${{PREEMPTED:-None}} StartTime=2026-01-02T03:04:05"
echo "JobId=7 JobName=x JobState=$STATE Reason=None $times Command=$command WorkDir=/"
"""
MTL = """#!/bin/bash
printf '%s\\n' "$@" >arguments
trap 'exit "${STOPPED:-75}"' USR1
trap 'exit "${KILLED:-75}"' TERM
echo "${SLURM_EXPORT_ENV:-all}" >started
for _ in $(seq "${TENTHS:-0}"); do sleep 0.1; done
exit "${CODE:-0}"
"""
SRUN = """#!/bin/bash
case " $* " in
  *" ${UNSTARTED:-no} "*) exit 233 ;; # the node does not answer
  *" ${ENDING:-no} "*) exit 3 ;;
  *" start "*) exec sleep 30 ;; # Ray
esac
while [[ "$1" == -* ]]; do shift; done
exec "$@"
"""
WANDB = '#!/bin/bash\necho "$@" >>sent\nfor file in "${@:3}"; do touch "$file.synced"; done\n'


class Site:
    """A directory to submit from, and what SLURM would set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "bin").mkdir()
        for name, text in {"scontrol": SCONTROL, "mtl": MTL, "srun": SRUN, "wandb": WANDB}.items():
            (path / "bin" / name).write_text(text)
            (path / "bin" / name).chmod(0o755)
        self.environment = {"PATH": f"{path}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "STATE": "RUNNING"}

    def start(self, script, *arguments, **environment):
        return subprocess.Popen(
            ["bash", ROOT / "slurm" / script, *arguments],
            cwd=self.path,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script, *arguments, **environment):
        process = self.start(script, *arguments, **environment)
        output, _ = process.communicate(timeout=30)
        return process.returncode, output

    def warned(self, script, *arguments, **environment):
        """The same, of a job that gets USR1 while mtl runs."""
        (self.path / "started").unlink(missing_ok=True)
        process = self.start(script, *arguments, TENTHS="100", **environment)
        end = time.monotonic() + 10
        while not (self.path / "started").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate(timeout=30)
        return process.returncode, output

    @property
    def arguments(self):
        return (self.path / "arguments").read_text().split()

    @property
    def log(self):
        """Of the requeues of a training."""
        return self.path / "runs" / "train-7" / "requeues.log"

    @property
    def requeued(self):
        path = self.path / "requeued"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("given", "out"), [([], "runs/train-7"), (["--out", "a b"], "a b"), (["--out=c", "--quiet"], "c")]
)
def test_out_is_the_users_or_named_after_the_job(site, given, out):
    assert site.run("train.sbatch", "multidigits", *given)[0] == 0
    passed = (site.path / "arguments").read_text().splitlines()
    assert passed == ["train", "multidigits", *given, "--override", "--out", out]


@pytest.mark.parametrize(("kind", "out"), [("train", "train-7"), ("compare", "compare-5/seed-2"), ("auto", "auto-7")])
def test_a_printed_script_needs_nothing_beside_it(site, kind, out):
    (site.path / "mine.sbatch").write_text(standalone(kind))
    array = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"} if kind == "compare" else {}
    code, output = site.run(site.path / "mine.sbatch", "multidigits", **array)
    assert (code, site.arguments[-2:]) == (0, ["--out", f"runs/{out}"]), output
    assert "common.sh" not in standalone(kind)


def test_only_a_job_that_ran_before_resumes(site):
    site.run("train.sbatch", "multidigits", SLURM_RESTART_COUNT="2")
    assert site.arguments[-1] == "--resume"


def test_a_failure_is_reported_and_not_requeued(site):
    assert site.run("train.sbatch", "multidigits", CODE="2")[0] == 2
    assert site.requeued == []


def test_a_warned_job_is_requeued_until_it_was_so_often(site):
    log = site.log
    for turn in range(2):
        (site.path / "started").unlink(missing_ok=True)
        assert site.warned("train.sbatch", "multidigits", MTL_REQUEUES="2")[0] == 75
        assert len(site.requeued) == turn + 1
    log.write_text(log.read_text() + "6 of-another-job\n17 of-another-job\n")
    code, output = site.warned("train.sbatch", "multidigits", MTL_REQUEUES="2")
    assert (code, len(site.requeued)) == (75, 2)
    assert "not requeued, because it was 2 times" in output and "--out runs/train-7" in output


@pytest.mark.parametrize("warns", [False, True])
def test_preemption_is_not_counted_whichever_signal_the_site_sends(site, warns):
    run = site.warned if warns else site.run
    code, output = run("train.sbatch", "b", CODE="75", MTL_REQUEUES="0", PREEMPTED="2026-01-02T09:00:00")
    assert (code, site.requeued) == (75, ["7"]), output
    assert "preempted; requeued" in output
    assert site.log.read_text().split()[2:] == ["preempted"]
    code, output = site.warned(
        "train.sbatch", "b", MTL_REQUEUES="1", PREEMPTED="2026-01-01T09:00:00"
    )  # an earlier start
    assert (code, site.requeued) == (75, ["7", "7"])
    assert "time is up; requeued, 1 of at most 1 times" in output


def test_every_other_requeue_is_counted(site):
    for turn in range(2):
        code, output = site.run("train.sbatch", "b", CODE="75", MTL_REQUEUES="1")
        assert (code, site.requeued) == (75, ["7"])
        assert ("stopped; not requeued, because it was 1 times" in output) == (turn == 1)


@pytest.mark.parametrize("code", [1, 2, 3, 126, 127, 139])
def test_every_exit_code_keeps_its_meaning(site, code):
    assert site.run("train.sbatch", "b", CODE=str(code))[0] == code
    assert site.warned("train.sbatch", "b", STOPPED=str(code))[0] == code
    assert site.requeued == []


@pytest.mark.parametrize("code", ["137", "253"])
def test_mtl_that_is_killed_goes_on_from_what_it_saved(site, code):
    assert site.run("train.sbatch", "b", CODE=code)[0] == int(code)
    assert site.requeued == []
    (site.log.parent / "checkpoints").mkdir(parents=True)
    (site.log.parent / "checkpoints" / "group.pt").touch()
    for _ in range(2):
        status, output = site.run("train.sbatch", "b", CODE=code, MTL_REQUEUES="1")
        assert (status, site.requeued) == (75, ["7"])
    assert "mtl was killed; not requeued, because it was 1 times" in output


def test_what_the_script_loads_reaches_mtl_whatever_sbatch_was_told_to_export(site):
    site.run("train.sbatch", "b", SLURM_EXPORT_ENV="NONE")
    assert (site.path / "started").read_text() == "all\n"


def test_a_signal_before_mtl_is_ready_loses_nothing(site):
    code = str(128 + signal.SIGUSR1)
    assert site.run("train.sbatch", "multidigits", CODE=code)[0] == 75
    assert site.requeued == ["7"]


def test_a_step_that_slurm_does_not_start_sends_the_job_back_to_the_queue_so_often(site):
    arguments = {"MTL_REQUEUES": "1", "UNSTARTED": "mtl"}
    code, output = site.run("train.sbatch", "multidigits", **arguments)
    assert (code, site.requeued) == (75, ["7"])
    assert "SLURM did not start mtl: srun ended with 233" in output
    assert "not started; requeued, 1 of at most 1 times" in output
    code, output = site.run("train.sbatch", "multidigits", **arguments)
    assert (code, site.requeued) == (75, ["7"])
    assert "not requeued, because it was 1 times" in output


SEARCH = {"SLURM_JOB_NODELIST": "localhost,node2", "TENTHS": "200"}


def test_a_search_goes_back_to_the_queue_when_slurm_does_not_start_ray_on_a_node(site):
    code, output = site.run("search.sbatch", "multidigits", **SEARCH, KILLED="137", UNSTARTED="--nodelist=node2")
    assert (code, site.requeued) == (75, ["7"])
    assert "SLURM did not start Ray on a node: srun ended with 233; see runs/search-7/ray.log" in output


@pytest.mark.parametrize("node", ["localhost", "node2"])
def test_a_search_fails_when_ray_ends_on_a_node(site, node):
    code, output = site.run(
        "search.sbatch", "multidigits", **SEARCH, KILLED="137", ENDING=f"--nodelist={node} --kill-on-bad-exit=1"
    )
    assert (code, site.requeued) == (1, [])
    assert "Ray ended on a node with 3; see runs/search-7/ray.log" in output


def test_a_search_goes_back_to_the_queue_when_ray_ends_after_something_is_saved(site):
    saved = site.path / "runs" / "search-7" / "checkpoints" / "search.pt"
    saved.parent.mkdir(parents=True)
    saved.touch()
    code, output = site.run(
        "search.sbatch", "multidigits", **SEARCH, KILLED="137", ENDING="--nodelist=node2 --kill-on-bad-exit=1"
    )
    assert (code, site.requeued) == (75, ["7"])
    assert "Ray was lost; requeued, 1 of at most 5 times" in output


def test_the_port_of_ray_is_none_that_the_kernel_gives_to_others(site):
    site.run("search.sbatch", "multidigits", **SEARCH | {"TENTHS": "0"})
    port = int(site.arguments[site.arguments.index("--address") + 1].rpartition(":")[2])
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert port >= 1024 and not lowest <= port <= highest


def test_a_search_that_loses_ray_while_it_is_stopped_is_requeued_by_slurm(site):
    code, output = site.run(
        "search.sbatch", "b", **SEARCH | {"TENTHS": "20"}, UNSTARTED="--nodelist=node2", STATE="NODE_FAIL"
    )
    assert (code, site.requeued) == (0, [])
    assert "Ray" not in output


def test_a_cancelled_job_stays_cancelled(site):
    code, output = site.warned("train.sbatch", "multidigits", STATE="CANCELLED")
    assert (code, site.requeued) == (75, [])
    assert "its state is CANCELLED" in output


ARRAY = {"SLURM_ARRAY_JOB_ID": "5"}
STUDY = ["--by-strategy", "b", "--strategies", "equal", "gradnorm:alpha=1", "--seeds", "4", "--lr=1"]


def test_a_task_of_an_array_takes_one_seed_and_is_requeued_alone(site):
    array = {**ARRAY, "SLURM_ARRAY_TASK_ID": "3"}
    site.run("compare.sbatch", "b", "--strategies", "equal", "--out=o", CODE="75", **array)
    expected = "compare b --strategies equal --out=o --override --seed 3 --seeds 1 --override --out o/seed-3"
    assert site.arguments == expected.split()
    assert site.requeued == ["5_3"]


def test_a_task_of_an_array_takes_one_strategy_and_the_first_the_baselines(site):
    passed = []
    for task in range(2):
        site.run("compare.sbatch", *STUDY, **ARRAY, SLURM_ARRAY_TASK_ID=str(task))
        passed.append(" ".join(site.arguments))
    common, second = "compare b --seeds 4 --lr=1", "--no-single-task --strategies gradnorm:alpha=1"
    assert passed == [
        f"{common} --strategies equal --override --out runs/compare-5/strategy-0",
        f"{common} {second} --override --out runs/compare-5/strategy-1",
    ]


@pytest.mark.parametrize(
    ("extra", "task", "message"),
    [([], "2", "--strategies names 2, so --array=0-1"), (["--reference", "equal"], "0", "it is the first strategy")],
)
def test_an_array_that_does_not_fit_is_refused(site, extra, task, message):
    code, output = site.run("compare.sbatch", *STUDY, *extra, **ARRAY, SLURM_ARRAY_TASK_ID=task)
    assert code == 2 and message in output
    assert not (site.path / "started").exists()


def test_login_sync_sends_what_changed_and_once(site):
    runs = [site.path / f"runs/a b/seed-{seed}/wandb/offline-run-2026-{seed}" for seed in range(2)]
    for run in runs:
        run.mkdir(parents=True)
        (run / "run-x.wandb").write_text("rows")
        os.utime(run / "run-x.wandb", (1e9, 1e9))
    (site.path / "runs" / "other.wandb").write_text("not a run")
    command = ["bash", ROOT / "slurm" / "login-sync.sh"]

    def sync():
        return subprocess.run(command, cwd=site.path, env=site.environment, capture_output=True, text=True, check=True)

    assert sync().stdout == "login-sync: 2 runs\n"
    assert sync().stdout == "login-sync: nothing new\n"
    (runs[1] / "run-x.wandb").write_text("rows, more rows")
    os.utime(runs[1] / "run-x.wandb", (2e9, 2e9))
    assert sync().stdout == "login-sync: 1 runs\n"
    sent = (site.path / "sent").read_text().splitlines()
    assert sent == [
        f"sync --include-synced {' '.join(str((run / 'run-x.wandb').relative_to(site.path)) for run in runs)}",
        f"sync --include-synced {(runs[1] / 'run-x.wandb').relative_to(site.path)}",
    ]


def test_login_sync_names_what_is_missing(site):
    command = ["bash", ROOT / "slurm" / "login-sync.sh", "nowhere"]
    done = subprocess.run(command, cwd=site.path, env=site.environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "login-sync: no directory 'nowhere'\n")


def test_several_gpus_of_a_node_are_a_process_of_torchrun_each(site):
    python = site.path / "bin" / "python3"
    python.write_text((site.path / "bin" / "mtl").read_text())
    python.chmod(0o755)
    assert site.run("train.sbatch", "multidigits", SLURM_GPUS_ON_NODE="2")[0] == 0
    launched = ["-m", "mtl.cli.launch", "--standalone", "--nproc-per-node", "2", "-m", "mtl"]
    assert site.arguments == [*launched, "train", "multidigits", "--override", "--out", "runs/train-7"]
    for one in ({"SLURM_GPUS_ON_NODE": "1"}, {"SLURM_GPUS_ON_NODE": "2", "MTL_PROCESSES": "1"}):
        assert site.run("train.sbatch", "multidigits", **one)[0] == 0
        assert site.arguments[0] == "train"
    assert site.warned("train.sbatch", "multidigits", SLURM_GPUS_ON_NODE="2")[0] == 75
    assert len(site.requeued) == 1
