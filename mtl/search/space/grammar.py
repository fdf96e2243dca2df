"""Reads a space from the command line (`lr=1e-4:1e-2:log`) and from YAML into names and ranges, not yet checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.files.yaml_files import read_texts
from mtl.hyperparameters import read_items

_BETWEEN_CHOICES = re.compile(
    r",(?![A-Za-z_][A-Za-z_0-9]*=)"
)  # the comma in `gradnorm:alpha=1,lr=0.1` belongs to the spec
_RANGE = re.compile(r"(?P<low>[^:]+):(?P<high>[^:]+?)(:(?P<scale>log|linear))?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Written:
    """What the user wrote for one parameter. `where` says in a message where it stands."""

    where: str = field(default="space", kw_only=True, compare=False)


@dataclass(frozen=True)
class Bounds(Written):
    """A lower and an upper bound. `log` is None where the user did not say which scale."""

    low: str
    high: str
    log: bool | None = None

    def __str__(self) -> str:
        return f"{self.low}:{self.high}" + {None: "", True: ":log", False: ":linear"}[self.log]


@dataclass(frozen=True)
class Listed(Written):
    """Choices, each as it was written."""

    choices: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.choices)


@dataclass(frozen=True)
class Word(Written):
    """`simplex`, or `default` for a parameter that is not to be searched."""

    text: str

    def __str__(self) -> str:
        return self.text


Range = Bounds | Listed | Word
_WORDS = ("simplex", "default")


def read_options(options: Sequence[str]) -> dict[str, Range]:
    """The ranges of `--search`, by name.

    Args:
        options: texts of the form `NAME=RANGE`.

    Raises:
        ValueError: a text of another form, or a name given twice.
    """
    items = read_items("--search", options, "NAME=RANGE, such as lr=1e-4:1e-2:log or optimizer=adam,sgd")
    return {name: dataclasses.replace(read_range(name, text), where="--search") for name, text in items.items()}


def read_varied(options: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The choices of `--vary`, by name.

    Args:
        options: texts of the form `NAME=CHOICE,CHOICE`.

    Raises:
        ValueError: a text of another form, or a name given twice.
    """
    items = read_items("--vary", options, "NAME=CHOICE,CHOICE, such as optimizer=adam,sgd")
    return {name: read_choices(f"--vary {name}", text) for name, text in items.items()}


def read_file(path: Path) -> dict[str, Range]:
    """The ranges of a YAML file, by name. A range is text as on the command line, a list, or `{low, high, log}`.

    Raises:
        ValueError: the file cannot be read, or holds something else; the message has the line.
    """
    try:
        entries = read_texts(path)
    except ValueError as error:
        raise ValueError(f"--space {error}") from error
    found: dict[str, Range] = {}
    for name, entry in entries.items():
        where = f"--space {path}, line {entry.line}"
        found[name] = dataclasses.replace(_from_yaml(f"{where}: {name}", name, entry.value), where=where)
    return found


def read_range(name: str, text: str) -> Range:
    """One range, as it is written on the command line.

    Raises:
        ValueError: an empty choice.
    """
    if text in _WORDS:
        return Word(text)
    match = _RANGE.fullmatch(text)
    if match and _NUMBER.fullmatch(match["low"].strip()):
        scale = match["scale"]
        return Bounds(match["low"].strip(), match["high"].strip(), None if scale is None else scale == "log")
    return Listed(read_choices(name, text))


def read_choices(name: str, text: str) -> tuple[str, ...]:
    """Choices joined by commas, as in `focal:gamma=1,alpha=0.5,mae`, where there are two.

    Raises:
        ValueError: an empty choice.
    """
    choices = tuple(part.strip() for part in _BETWEEN_CHOICES.split(text))
    if "" in choices:
        raise ValueError(f"{name}={text!r}: a choice is empty")
    return choices


def _from_yaml(where: str, name: str, value: Any) -> Range:
    if isinstance(value, str):
        return read_range(name, value)
    if isinstance(value, Mapping):
        if not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
            raise ValueError(f"{where}: a range has the keys low, high and, if wanted, log; it has {', '.join(value)}")
        if (log := value.get("log")) not in (None, "true", "false"):
            raise ValueError(f"{where}: log={log!r} must be true or false")
        return Bounds(str(value["low"]), str(value["high"]), None if log is None else log == "true")
    items = value if isinstance(value, list) else [value]
    if not items or any(isinstance(item, list | dict) for item in items):
        raise ValueError(f"{where}: {value!r} is neither a range nor a list of values")
    return Listed(tuple("none" if item is None else item for item in items))
