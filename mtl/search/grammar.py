"""Reads a space from the command line (`lr=1e-4:1e-2:log`) and from YAML into names and ranges, not yet checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_BETWEEN_CHOICES = re.compile(r",(?![A-Za-z_]+=)")  # the comma in `gradnorm:alpha=1,lr=0.1` belongs to the spec
_RANGE = re.compile(r"(?P<low>[^:]+):(?P<high>[^:]+?)(:(?P<scale>log|linear))?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Interval:
    """Two bounds as they were written; `log` is None when it was not said."""

    low: str
    high: str
    log: bool | None = None


@dataclass(frozen=True)
class Listed:
    """Choices as they were written."""

    choices: tuple[str, ...]


class Word(str):
    """`simplex`, or `default` for a parameter that is not to be searched."""


Range = Interval | Listed | Word
_WORDS = ("simplex", "default")


def read_options(options: Sequence[str]) -> dict[str, Range]:
    """`NAME=RANGE` items of `--search`.

    Raises:
        ValueError: an item that is not of that form, or a name given twice.
    """
    found: dict[str, Range] = {}
    for option in options:
        name, equals, text = (part.strip() for part in option.partition("="))
        if not (name and equals and text):
            raise ValueError(f"--search {option!r} is not NAME=RANGE, such as lr=1e-4:1e-2:log or optimizer=adam,sgd")
        if name in found:
            raise ValueError(f"--search gives {name} twice")
        found[name] = read_range(name, text)
    return found


def read_file(path: Path) -> dict[str, Range]:
    """A YAML file of names and ranges: text as on the command line, lists, or `{low, high, log}`.

    Raises:
        ValueError: the file cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--space {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"--space {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"--space {path}: a mapping of names to ranges is wanted")
    return {str(name): _from_yaml(f"--space {path}: {name}", str(name), value) for name, value in content.items()}


def read_range(name: str, text: str) -> Range:
    """One range as it is written on the command line."""
    if text in _WORDS:
        return Word(text)
    match = _RANGE.fullmatch(text)
    if match and _NUMBER.fullmatch(match["low"].strip()):
        scale = match["scale"]
        return Interval(match["low"].strip(), match["high"].strip(), None if scale is None else scale == "log")
    choices = tuple(part.strip() for part in _BETWEEN_CHOICES.split(text))
    if "" in choices:
        raise ValueError(f"{name}={text!r}: a choice is empty")
    return Listed(choices)


def _from_yaml(where: str, name: str, value: Any) -> Range:
    if isinstance(value, str):
        return read_range(name, value)
    if isinstance(value, Mapping):
        if not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
            raise ValueError(f"{where}: a range has the keys low, high and, if wanted, log; it has {', '.join(value)}")
        if not isinstance(value.get("log", False), bool):
            raise ValueError(f"{where}: log={value['log']!r} must be true or false")
        return Interval(str(value["low"]), str(value["high"]), value.get("log"))
    items = value if isinstance(value, list) else [value]
    if not items or any(isinstance(item, list | dict) for item in items):
        raise ValueError(f"{where}: {value!r} is neither a range nor a list of values")
    return Listed(tuple("none" if item is None else str(item) for item in items))
