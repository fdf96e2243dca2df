"""`results.jsonl`: which of its lines are finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mtl.files.json_lines import read_lines

_KEYS = ("run", "strategy", "phase", "status")


class Records(NamedTuple):
    """The finished runs of a file.

    Attributes:
        runs: by name, in the order in which each was first written; of several lines of one run the last counts.
        damaged: numbers of the lines that are no runs.
        cut: number of a last line that a crash cut short; None when there is none.
    """

    runs: dict[str, dict[str, Any]]
    damaged: list[int]
    cut: int | None

    @property
    def unreadable(self) -> list[int]:
        """Numbers of all lines that are left out."""
        return self.damaged + ([] if self.cut is None else [self.cut])


def read_records(path: Path) -> Records:
    """Read results.jsonl, which need not exist."""
    lines = read_lines(path)
    runs: dict[str, dict[str, Any]] = {}
    damaged = list(lines.damaged)
    for number, value in lines.whole:
        if isinstance(value, dict) and all(value.get(key) is not None for key in _KEYS):
            runs[str(value["run"])] = value
        else:
            damaged.append(number)
    return Records(runs, sorted(damaged), lines.cut)


def named_lines(path: Path, numbers: list[int]) -> str:
    """How damaged lines are named: the file, and at most five of them."""
    listed = ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return f"{path}, line{'s' * (len(numbers) > 1)} {listed}"
