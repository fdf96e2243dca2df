"""The guides: every block is run as it stands; training is cut to a few steps."""

import re
import shlex
from pathlib import Path

import pytest

from mtl.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("tuning", "evaluation")
TEXT = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in GUIDES}
PYTHON = [(name, block) for name in GUIDES for block in re.findall(r"```python\n(.*?)```", TEXT[name], re.DOTALL)]
SHELL = {
    name: [line for block in re.findall(r"```sh\n(.*?)```", TEXT[name], re.DOTALL) for line in block.splitlines()]
    for name in GUIDES
}


def cut(line):
    """The arguments of a line, with little to train."""
    words = shlex.split(line)
    assert words[0] == "mtl"
    arguments = words[1:]
    short = {"compare": ["--steps=3"], "search": ["--steps=4", "--interval=2"], "train": ["--steps=4"]}
    if "--config" in arguments:
        short = {}
    for option, least in (("--seeds", "2"), ("--budget", "2"), ("--trials", "4"), ("--time", "8s")):
        if option in arguments:
            arguments[arguments.index(option) + 1] = least
    return [*arguments, *short.get(arguments[0], [])]


@pytest.mark.parametrize(("guide", "block"), PYTHON)
def test_python_blocks_run(guide, block, capsys):
    names = {}
    exec(compile(block, f"{guide}.md", "exec"), names)
    if guide == "tuning":
        assert "difference numbers" in capsys.readouterr().out
    else:
        splits = names["Visits"]().load()
        assert [len(part.inputs) > 300 for part in (splits.train, splits.validation, splits.test)] == [True] * 3
        rarest = splits.train.targets["state"].bincount().min() / len(splits.train.inputs)
        assert 0 < rarest < 0.1 and splits.train.inputs.mean(0).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_commands_run_one_after_another(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "visits.py").write_text(next(block for _, block in PYTHON if "class Visits" in block), encoding="utf-8")
    for line in SHELL[guide]:
        assert main(cut(line)) == 0, line
    for out in re.findall(r"--out (runs/\w+)", TEXT[guide]):
        assert (tmp_path / out / "report.html").exists(), out


def test_every_command_writes_where_nothing_is_yet():
    for guide in GUIDES:
        places = re.findall(r"--out (\S+)", "\n".join(SHELL[guide]))
        assert len(places) == len(set(places)) > 1


def test_links_point_to_files():
    for text in TEXT.values():
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert link.startswith("http") or (DOCS / link).exists(), link
