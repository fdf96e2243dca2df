"""The generated documentation is that of the code as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtl.cli.parser import build_parser
from mtl.strategies import REGISTRY

ROOT = Path(__file__).parents[2]


def _lines(block):
    """The lines of a block; those that end with a backslash go on."""
    return block.replace("\\\n", " ").splitlines()


_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
#: Indented blocks by page; those of one page follow each other. What is between fences has tests of its own.
BLOCKS = {
    path: [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?<=\n\n)(?: {4}\S.*\n(?:(?: {4}.*)?\n)*)", _FENCED.sub("", text))
    ]
    for path, text in PAGES.items()
}
SHELL = [found[2] for text in PAGES.values() for found in _FENCED.finditer(text) if found[1] == "sh"]
COMMANDS = [
    line
    for block in [*SHELL, *(block for blocks in BLOCKS.values() for block in blocks)]
    for line in _lines(block)
    if line.startswith("mtl ")
]
PROGRAMS = {path: "\n".join(block for block in blocks if "import " in block) for path, blocks in BLOCKS.items()}


def test_every_block_is_a_program_commands_or_a_diagram():
    for path, blocks in BLOCKS.items():
        for block in blocks:
            commands = all(line.startswith(("mtl ", "wandb ")) for line in _lines(block) if line)
            assert commands or "import " in block or "<-" in block, f"{path.name}: {block}"
    assert len(COMMANDS) > 5 and any(PROGRAMS.values())


@pytest.mark.parametrize("path", [path for path in PROGRAMS if PROGRAMS[path]], ids=lambda path: path.stem)
def test_the_programs_of_a_page_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what they write is a reader's
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # as a reader's
    try:
        exec(compile(PROGRAMS[path], str(path), "exec"), {"__name__": "page"})
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_a_page_are_understood(command):
    words = shlex.split(command, comments=True)[1:]
    if words[1].startswith("--config"):  # then the file names the benchmark
        words.insert(1, "multidigits")
    build_parser().parse_args(words)


def test_packages_are_there_after_import_mtl_alone():
    program = (
        "import mtl; print(mtl.population.Population.__name__, mtl.losses.make_loss('mse'), hasattr(mtl, 'other'))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Population", "mse", "False"]


def test_the_pages_of_the_strategies_are_current():
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_of_oracles_has_every_strategy():
    names = [line.split("|")[1].strip() for line in (ROOT / "docs/oracles.md").read_text().splitlines() if "|" in line]
    assert names[2:] == list(REGISTRY)
