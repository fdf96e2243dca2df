"""What the README shows, run as it stands; training is cut to a few steps."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from mtl.cli.main import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def test_the_first_commands_are_the_main_job_the_tests_and_a_search():
    assert [line.split("#")[0].strip() for line in SHELL[:3]] == ["make compare", "make test", "make search"]


@pytest.mark.parametrize("command", [line for line in SHELL if line.startswith("make")])
def test_make_targets_exist(command):
    target = shlex.split(command, comments=True)
    subprocess.run([*target, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_training_loop_runs(capsys):
    exec(compile(PYTHON[0], "README.md", "exec"), {})
    assert "tensor(" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [line for line in SHELL if re.match("mtl (?!submit)", line)]
)  # tests/cli/test_submit.py
def test_commands_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(next(block for block in PYTHON if "class Mine" in block))
    before = [line for line in SHELL if line.startswith("mtl search")] if command.startswith("mtl replay") else []
    for line in [*before, command]:
        arguments = shlex.split(line, comments=True)[1:]
        short = {"compare": ["--steps=3", "--seeds=1"], "search": ["--steps=4", "--interval=2"]}.get(arguments[0], [])
        if arguments[0] == "auto":
            arguments[arguments.index("--time") + 1] = "8s"
        if "--seeds" in arguments:  # an option is given once
            del arguments[(place := arguments.index("--seeds")) : place + 2]
        assert main([*arguments, *short]) == 0
    assert list(tmp_path.glob("runs/*/report.html"))


@pytest.mark.slow
def test_a_replay_of_the_search_is_exact_at_full_length(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    search, replay = (next(line for line in SHELL if line.startswith(f"mtl {name}")) for name in ("search", "replay"))
    for line in (search, replay):
        assert main(shlex.split(line, comments=True)[1:]) == 0
    assert "bit for bit" in " ".join(capsys.readouterr().out.split())


def test_every_spec_and_benchmark_that_it_names_exists():
    from mtl.benchmarks import BENCHMARKS
    from mtl.strategies import make

    specs = re.findall(
        r"^\| `([a-z][^`]*)` \|", README.split("## Strategies and specs")[1].split("##")[0], re.MULTILINE
    )
    assert len(specs) >= 4
    for spec in specs:
        make(spec)
    rows = re.findall(r"^\| (`[^|]+`) \|", README.split("## Benchmarks")[1].split("##")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == set(BENCHMARKS)


def test_links_point_to_files():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
