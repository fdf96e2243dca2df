"""What the pages say of options and settings is what is declared."""

import re
from pathlib import Path

import pytest

from mtl.cli.declared import declared
from mtl.cli.options import COMMANDS
from mtl.search.methods import METHODS
from mtl.search.space.build import SETTINGS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Options of argparse, pip, sbatch and torchrun.
OTHERS = {"--help", "--no-deps", "--nproc-per-node", "--time"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_option_that_a_page_names_is_declared(page):
    known = {each.dashed for command in COMMANDS.values() for each in declared(command).values()}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page.read_text())) <= known | OTHERS


def test_the_settings_that_a_search_varies_and_its_methods_are_listed():
    text = (ROOT / "docs/search.md").read_text()
    listed = re.search(r"\* training settings: `([^`]+)`", text)
    assert listed is not None and set(listed[1].split()) == {*SETTINGS}
    table = text.split("## Methods")[1].split("\n## ")[0]
    first = " ".join(re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE))
    assert set(re.findall(r"`([a-z0-9]+)`", first)) == {*METHODS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_on_a_page(command):
    assert re.search(rf"(`|\n *)mtl {command}\b", "".join(page.read_text() for page in PAGES))
