"""How a table in a text file is named as a benchmark: `PATH.csv:TARGET,TARGET:KIND`."""

from __future__ import annotations

import re

_PLACE = re.compile(r"(?P<path>.+\.(csv|tsv))(:(?P<targets>.*))?", re.IGNORECASE | re.DOTALL)


def parted_table(name: str) -> tuple[str, list[str]] | None:
    """Path and targets of `PATH.csv:TARGET,TARGET:KIND`; None for a name that is none of a table."""
    found = _PLACE.fullmatch(name)
    return found and (found["path"], [part for part in (found["targets"] or "").split(",") if part])
