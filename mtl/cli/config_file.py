"""`--config FILE`: options in YAML under those of the command line; also the config.yaml that a run has written."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.cli.errors import BadInput
from mtl.cli.parser import actions_of, build_parser
from mtl.files.yaml_files import Entry, integer, read_texts
from mtl.suggestions import nearest

_NOT_RECORDED = (
    "benchmark",
    "out",
    "resume",
    "config",
    "quiet",
    "override",
    "space",
    "search",
)  # a search records what it read


def merge_config(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; values of `--config FILE` stand under those of the command line.

    Raises:
        BadInput: an option that does not exist, or a value that it cannot have.
    """
    args, unknown = parser.parse_known_args(arguments)
    actions = actions_of(parser, args.command)
    if unknown:
        word = unknown[0].partition("=")[0].lstrip("-").replace("_", "-")
        hint = nearest(word, [name.replace("_", "-") for name in actions], f"`mtl {args.command} --help` shows all")
        raise BadInput(f"unrecognized arguments: {' '.join(unknown)}: {hint}")
    if getattr(args, "config", None) is None:
        return args
    where = f"--config {args.config}"
    try:
        entries = read_texts(Path(args.config))
    except ValueError as error:
        raise BadInput(f"--config {error}") from error
    given = args.given
    if _is_recorded(entries):
        entries = _recorded(entries, args.command, where)
    else:  # what a user has written is meant, what a run has recorded may be what did not matter in it
        args.given = given | {key.replace("-", "_") for key in entries}
    if given & {"epochs", "steps"}:  # either is the length of a run: that of the command line holds
        entries = {key: entry for key, entry in entries.items() if key not in ("epochs", "steps")}
    for key, entry in entries.items():
        name, place = key.replace("-", "_"), f"{where}, line {entry.line}"
        if name not in actions or name == "config":
            raise BadInput(f"{place}: unknown setting {key!r}: {nearest(name, actions, '`--help` shows all')}")
        if name not in given:
            setattr(args, name, _converted(actions[name], entry.value, f"{place}: {key}"))
    return args


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of a command that are not at their defaults, for its config.yaml to serve as a `--config`."""
    actions = actions_of(build_parser(), args.command)
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, action in actions.items()
        if name not in _NOT_RECORDED and (value := getattr(args, name)) != action.default
    }


def _is_recorded(entries: Mapping[str, Entry]) -> bool:
    return {"command", "training", "versions"} <= entries.keys()


def _recorded(entries: Mapping[str, Entry], command: str, where: str) -> dict[str, Entry]:
    """The options that a run's config.yaml holds: as given, and the training settings as they were worked out."""
    if entries["command"].value != command:
        raise BadInput(f"{where}: it is of `mtl {entries['command'].value}`, not of `mtl {command}`")
    if "options" not in entries:
        raise BadInput(f"{where}: an earlier version of mtl wrote it, which did not record its options")
    found: dict[str, Entry] = {}
    for part in ("options", "training"):
        line, held = entries[part].line, entries[part].value
        found |= {name: Entry(value, line) for name, value in held.items() if value is not None}
    if "steps" in found:
        found.pop("epochs", None)  # it did not count
    return found


def _converted(action: argparse.Action, value: Any, where: str) -> Any:
    """A value in YAML as the command line would have given it."""
    if value is None:
        return action.default
    if action.nargs == 0:
        if value not in ("true", "false"):
            raise BadInput(f"{where}={value!r} must be true or false")
        return value == "true"
    if action.nargs == "+":
        return [_converted_one(action, item, where) for item in (value if isinstance(value, list) else [value])]
    return _converted_one(action, value, where)


def _converted_one(action: argparse.Action, value: Any, where: str) -> Any:
    if not isinstance(value, str):
        raise BadInput(f"{where}={'null' if value is None else value!r} must be a single value")
    kind = integer if action.type is int else action.type if callable(action.type) else str
    try:
        converted = kind(value)
    except ValueError:
        raise BadInput(f"{where}={value!r} is not a valid {getattr(action.type, '__name__', 'value')}") from None
    if action.choices is not None and converted not in action.choices:
        raise BadInput(f"{where}={value!r} must be one of {', '.join(map(str, action.choices))}")
    return converted
