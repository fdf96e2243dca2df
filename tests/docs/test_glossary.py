"""The glossary and the design name what there is."""

import importlib
import re
import tomllib
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
WORDS = dict(re.findall(r"^\| ([\w ]+) \| .* \| `([\w.:]+)` \|$", GLOSSARY, flags=re.MULTILINE))


def test_the_words_that_the_code_is_written_in_are_explained():
    wanted = "run member trial population group shard segment stage record job stepper cohort strategy signal weight"
    wanted += " Gramian trunk head task exploit explore skill selection"
    assert {*wanted.split()} <= WORDS.keys()
    assert len(WORDS) == GLOSSARY.count("\n| ") - 2, "each line of the table has its three columns"


@pytest.mark.parametrize("word", WORDS)
def test_the_code_of_a_word_exists(word):
    module, _, name = WORDS[word].partition(":")
    assert reduce(getattr, name.split("."), importlib.import_module(module)) is not None


@pytest.mark.parametrize("page", ["README.md", "docs/design.md", "docs/search.md", "docs/population.md", "docs/ray.md"])
def test_pages_that_use_the_words_link_to_it(page):
    assert "glossary.md" in (ROOT / page).read_text(encoding="utf-8")


def test_what_the_design_points_to_exists():
    paths = set(re.findall(r"`((?:mtl|tests|docs|benchmarks)/[\w./-]*)`", DESIGN))
    paths |= {f"mtl/{folder}" for folder in re.findall(r"`(\w+/)` \|", DESIGN)}
    assert len(paths) > 20
    assert not [path for path in sorted(paths) if not (ROOT / path).exists()]


def test_the_floors_of_the_design_are_those_that_are_checked():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = tools["importlinter"]["contracts"][0]["layers"]
    block = DESIGN.split("## Floors")[1].split("\n\n")[1]
    drawn = [floor.split() for floor in block.replace("\n", " ").split("<-")]
    assert drawn == [re.findall(r"mtl\.(\w+)", layer) for layer in reversed(layers)]
