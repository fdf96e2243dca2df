"""The requirements of `make test-bounds`: `python tests/bounds.py lowest` or `newest` prints them, one a line."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
#: What is tried. Tests of the other extras are skipped, in words, where those are absent.
EXTRAS = ("study", "test")


def requirements(which: str) -> list[str]:
    """Each direct requirement at the lowest version that pyproject.toml allows, or without a version."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(need for extra in EXTRAS for need in project["optional-dependencies"][extra]),
    ]
    split = [need.partition(">=") for need in declared]
    return [f"{name}=={version}" if which == "lowest" else name for name, _, version in split]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
