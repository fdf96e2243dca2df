"""`mtl submit`, with sbatch replaced. On a real SLURM: tests/slurm/test_jobs.py."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from mtl.cli.main import main

ROOT = Path(__file__).parents[2]
TINY = "tests/tiny.py:Tiny"
SBATCH = """#!/bin/bash
printf '%s\\n' "$@" >"$QUEUED"
command -v python >"$QUEUED.python"
echo "42;cluster"
exit "${CODE:-0}"
"""


@pytest.fixture
def queued(tmp_path, monkeypatch):
    """A file with the arguments of sbatch, a line each, once it is called."""
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("QUEUED", str(tmp_path / "queued"))
    return tmp_path / "queued"


def test_a_search_is_queued_with_both_kinds_of_options_and_what_comes_next_is_told(queued, capsys):
    resources = ["--nodes=4", "--time", "8:00:00"]
    settings = [TINY, "--strategy", "gradnorm", "--search", "lr=1e-4:1e-2:log"]
    assert main(["submit", "search", *resources, "--", *settings]) == 0
    *passed, script = queued.read_text().splitlines()[: len(resources) + 2]
    assert passed == ["--parsable", *resources]
    assert Path(script).samefile(ROOT / "slurm" / "search.sbatch")
    assert queued.read_text().splitlines()[len(resources) + 2 :] == settings
    assert capsys.readouterr().out.splitlines()[:5] == [
        f"job     42: mtl search {' '.join(settings)}",
        "files   runs/search-42",
        "output  mtl-search-42.out",
        "watch   squeue --jobs 42",
        "stop    scancel 42 (saves its state)",
    ]


def test_a_decision_is_queued_with_a_time_of_its_own_beside_that_of_the_job(queued, capsys):
    assert main(["submit", "auto", "--time=4:00:00", "--", TINY, "--time", "3h"]) == 0
    _, resources, script, *settings = queued.read_text().splitlines()
    assert (resources, settings) == ("--time=4:00:00", [TINY, "--time", "3h"])
    assert Path(script).samefile(ROOT / "slurm" / "auto.sbatch")
    assert "files   runs/auto-42\n" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["options", "config"])
def test_a_search_by_ray_tune_is_queued_wherever_the_engine_is_named(where, queued, tmp_path):
    (tmp_path / "mine.yaml").write_text("engine: tune\n")
    given = {"options": ["--engine=tune"], "config": ["--config", str(tmp_path / "mine.yaml")]}[where]
    assert main(["submit", "search", TINY, *given, "--scheduler=asha", "--searcher=random"]) == 0
    passed = queued.read_text().splitlines()
    assert passed.count("--engine=tune") == 1 and passed[passed.index(TINY) :][1 : 1 + len(given)] == given


@pytest.mark.parametrize("page", ["README.md", "slurm/README.md"])
def test_what_the_documentation_queues_is_queued(page, queued):
    commands = re.findall(r"^mtl (submit (?!--print).*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        assert main(shlex.split(command)) == 0
        assert queued.read_text().startswith("--parsable\n")


def test_the_job_finds_the_mtl_that_queued_it_without_an_active_environment(queued):
    assert main(["submit", "train", TINY]) == 0
    assert Path((queued.parent / "queued.python").read_text().strip()) == Path(sys.executable).parent / "python"


@pytest.mark.parametrize(
    ("resources", "settings", "array"),
    [
        ([], [TINY], ["--array=0-2"]),
        ([], [TINY, "--seeds", "5", "--seed", "10"], ["--array=10-14"]),
        (["--array=3,7"], [TINY], ["--array=3,7"]),
        (["-a3"], [TINY], ["-a3"]),
        (["-A", "account"], [TINY], ["--array=0-2", "-A", "account"]),
        ([], ["--by-strategy", TINY, "--strategies", "equal", "famo"], ["--array=0-1"]),
    ],
)
def test_a_comparison_has_a_task_for_each_seed_or_strategy(queued, capsys, resources, settings, array):
    assert main(["submit", "compare", *resources, "--", *settings]) == 0
    lines = queued.read_text().splitlines()
    assert lines[1 : 1 + len(array)] == array
    assert lines[-len(settings) :] == settings
    out = capsys.readouterr().out
    assert "output  mtl-compare-42_*.out\n" in out and "report  mtl report runs/compare-42\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--nodes=2", TINY], "`--` must stand before the arguments of mtl"),
        (["train"], "BENCHMARK is missing: mtl submit train BENCHMARK"),
        (["search", "--nodes=2", "--", "multidigts"], "did you mean multidigits"),
        (["search", TINY, "--strategy", "gradnrom"], "did you mean gradnorm"),
        (["search", TINY, "--method", "pbtt"], "unknown method 'pbtt': did you mean pbt"),
        (["search", TINY, "--search", "nothing=1,2"], "nothing"),
        (["search", TINY, "--objective", "nothing"], "nothing"),
        (["search", TINY, "--nodes", "3"], "--nodes 3: search.sbatch sets it"),
        (["search", TINY, "--engine", "population"], "--engine population: a job of search.sbatch has ray"),
        (["search", TINY, "--engine", "tune", "--scheduler", "pbtt"], "did you mean pbt"),
        (["search", TINY, "--engine", "tune", "--scheduler", "pbt", "--searcher", "optuna"], "changes values itself"),
        (["search", TINY, "--engine", "tune", "--gpus-per-trial", "-1"], "--gpus-per-trial -1: must be at least 0"),
        (["search", TINY, "--gpus-per-trial", "1"], "it is an option of --engine tune"),
        (["auto", TINY, "--time", "soon"], "--time soon: a number with s, m or h behind it is wanted"),
        (["auto", TINY, "--objective", "nothing"], "nothing"),
        (["auto", TINY, "--only", "looks"], "unknown part 'looks'"),
        (["train", TINY, "--lr", "-1"], "lr=-1.0 must be at least 0"),
        (["train", TINY, "--time=1:00"], "unrecognized arguments: --time=1:00"),
        (["train", TINY, "--strategy", "equl"], "did you mean equal"),
        (["compare", TINY, "--tune", "pbtt"], "did you mean pbt"),
        (["compare", TINY, "--seeds", "0"], "--seeds 0: must be at least 1"),
        (["compare", TINY, "--by-strategy"], "must be the first argument"),
        (["compare", "--", "--by-strategy", TINY], "--strategies must name them"),
        (["compare", TINY, "--strategies", "equal", "--reference", "famo"], "famo: it is not among the strategies"),
        (
            ["compare", "--", "--by-strategy", TINY, "--strategies", "equal", "--reference", "equal"],
            "--reference: with",
        ),
        (["compare", TINY, "--tune", "grid"], "the number of its trials cannot be given"),
        (["compare", TINY, "--tune", "pbt", "--budget", "1"], "--budget 1: pbt needs at least 2"),
        (["compare", TINY, "--budget", "4"], "--budget 4: it is an option of --tune METHOD"),
        (["compare", TINY, "--engine", "ray"], "without --tune METHOD there is no search"),
        (["search", TINY, "--members", "1"], "--members 1: pbt needs at least 2"),
        (["search", TINY, "--steps", "10", "--interval", "20"], "--interval 20: a run has only 10 steps"),
        (["search", TINY, "--objective", "sign", "product"], "pbt pursues one objective"),
        (["search", TINY, "--gpus-per-shard", "2"], "--gpus-per-shard 2: must be in (0, 1]"),
        (["train", TINY, "--model", "mlpp"], "unknown model 'mlpp': did you mean mlp"),
        (["train", TINY, "--model", "mlp:widht=3"], "did you mean width"),
        (["train", TINY, "--architecture", "mmoo"], "unknown architecture 'mmoo'"),
        (["replay", "runs/x"], "invalid choice: 'replay'"),
    ],
)
def test_a_job_that_would_fail_is_not_queued(queued, capsys, arguments, message):
    assert main(["submit", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not queued.exists()


def test_a_directory_that_holds_a_run_is_seen_before_the_job_is_queued(queued, tmp_path, capsys):
    (tmp_path / "run" / "seed-0").mkdir(parents=True)
    (tmp_path / "run" / "seed-0" / "config.yaml").write_text("command: compare")
    assert main(["submit", "compare", TINY, f"--out={tmp_path / 'run'}"]) == 2
    assert "already holds a run" in capsys.readouterr().err and not queued.exists()
    assert main(["submit", "compare", TINY, f"--out={tmp_path / 'run'}", "--resume"]) == 0


@pytest.mark.parametrize("form", [["--job-name=foo"], ["--job-name", "foo"], ["-J", "foo"], ["-Jfoo"]])
@pytest.mark.usefixtures("queued")
def test_the_log_has_the_name_of_the_job_and_paths_are_quoted(form, capsys):
    assert main(["submit", "compare", *form, "--", TINY, "--out=a b"]) == 0
    told = capsys.readouterr().out
    assert "output  foo-42_*.out\n" in told and "files   'a b'\n" in told and "mtl report 'a b'\n" in told
    assert "login-sync.sh 'a b'\n" in told


def test_what_describes_the_job_from_inside_which_another_is_queued_stays_behind(queued, monkeypatch):
    (queued.parent / "sbatch").write_text('#!/bin/bash\nenv >"$QUEUED"\necho 42\n')
    variables = {"SLURM_CPUS_PER_TASK": "7", "SBATCH_ACCOUNT": "me", "SRUN_CPUS_PER_TASK": "7", "SLURM_CONF": "/c"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for job, left in ((None, {*variables}), ("1", {"SLURM_CONF"})):
        if job:
            monkeypatch.setenv("SLURM_JOB_ID", job)
        assert main(["submit", "train", TINY]) == 0
        passed = {line.partition("=")[0] for line in queued.read_text().splitlines()}
        assert {name for name in passed if name.startswith(("SLURM_", "SBATCH_", "SRUN_"))} == left


@pytest.mark.usefixtures("queued")
def test_what_sbatch_refuses_fails(monkeypatch, capsys):
    monkeypatch.setenv("CODE", "3")
    assert main(["submit", "train", TINY]) == 1
    assert capsys.readouterr().out == ""


def test_no_sbatch_is_said(queued, monkeypatch, capsys):
    os.unlink(queued.parent / "sbatch")
    monkeypatch.setenv("PATH", str(queued.parent))
    assert main(["submit", "train", TINY]) == 2
    assert "is this the login node of a SLURM cluster?" in capsys.readouterr().err
