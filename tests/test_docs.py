"""The generated documentation is that of the code as it stands."""

import subprocess
import sys
from pathlib import Path

from mtl.strategies import REGISTRY

ROOT = Path(__file__).parent.parent


def test_the_pages_of_the_strategies_are_current():
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_of_oracles_has_every_strategy():
    names = [line.split("|")[1].strip() for line in (ROOT / "docs/oracles.md").read_text().splitlines() if "|" in line]
    assert names[2:] == list(REGISTRY)
