"""Reads the command line, with `--config FILE` under it: options in YAML, or the config.yaml that a run has written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.cli.declared import Declared, declared
from mtl.cli.errors import BadInput
from mtl.cli.options import COMMANDS, Command
from mtl.cli.parser import parsed
from mtl.files.config import check_config
from mtl.files.yaml_files import Entry, integer, read_texts
from mtl.suggestions import nearest

# A search records what it read of the last two.
_NOT_RECORDED = ("benchmark", "out", "resume", "config", "quiet", "override", "space", "search")


def read_arguments(arguments: Sequence[str] | None) -> Command:
    """The options of the command that is asked for; values of `--config FILE` stand under those of the command line.

    Raises:
        BadInput: an option that does not exist, or a value that it cannot have.
    """
    values, unknown = parsed(arguments)
    command = COMMANDS[values.pop("command")]
    if unknown:
        raise BadInput(f"unrecognized arguments: {' '.join(unknown)}: {_meant(unknown[0], command)}")
    given = frozenset(values)
    if "config" in declared(command) and (config := values.get("config")) is not None:
        below, written = _from_file(command, config, given)
        values, given = {**below, **values}, given | written
        if lacks := [name for name, each in declared(command).items() if each.required and name not in values]:
            raise BadInput(f"--config {config}: {_names_none(lacks[0], config)}")
    return _filled(command, values, given)


def _meant(word: str, command: type[Command]) -> str:
    """What somebody may have meant by a word that is no option of a command, nor the value of one."""
    name, known = word.partition("=")[0].lstrip("-").replace("_", "-"), _options(command)
    every = f"`mtl {command.command} --help` shows all"
    if not word.startswith("-") and name not in known:
        return f"no option takes {word!r}; {every}"
    others = [f"`mtl {other.command}`" for other in COMMANDS.values() if name in _options(other)]
    elsewhere = f"--{name} is an option of {', '.join(others)}; " if others and name not in known else ""
    return elsewhere + nearest(name, known, every, before="--")


def _options(command: type[Command]) -> list[str]:
    """The options that the help of a command shows, without their dashes."""
    return [each.dashed.lstrip("-") for each in declared(command).values() if not each.option.place]


def _names_none(name: str, path: Path) -> str:
    """That neither the file nor the command line gives what has to be given."""
    if name == "benchmark" and name in (entries := read_texts(path)):  # only a run's config.yaml comes here so
        return f"of a run it takes the options; the benchmark, {entries[name].value}, belongs on the command line"
    return f"it names no {name}, and the command line does neither"


def _filled(command: type[Command], values: Mapping[str, Any], given: frozenset[str]) -> Command:
    """The options with these values; those that other dataclasses declare go into a field of their own."""
    known = declared(command)
    fields = {name: value for name, value in values.items() if not known[name].sheet}
    for each in known.values():
        if each.sheet and values.get(each.name) is not None:
            fields.setdefault(each.sheet, {})[each.name] = values[each.name]
    return command(given=given, **fields)


def options_of(options: Command) -> dict[str, Any]:
    """The options of a command that are not at their defaults, for its config.yaml to serve as a `--config`."""
    usual = {field.name: field for field in dataclasses.fields(options)}
    found: dict[str, Any] = {}
    for name, each in declared(type(options)).items():
        if name in _NOT_RECORDED:
            continue
        if each.sheet:
            if name in (held := getattr(options, each.sheet)):
                found[name] = held[name]
            continue
        value, field = getattr(options, name), usual[name]
        if value != (field.default if field.default is not dataclasses.MISSING else _made(field)):
            found[name] = str(value) if isinstance(value, Path) else value
    return found


def _made(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if callable(field.default_factory) else None


def _from_file(command: type[Command], path: Path, given: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
    """The values of a file, and the names among them that a user has given by it."""
    where, known = f"--config {path}", declared(command)
    try:
        entries = read_texts(path)
    except ValueError as error:
        raise BadInput(f"--config {error}") from error
    # What a user has written is meant, what a run has recorded may be what did not matter in it.
    recorded = {"command", "training", "versions"} <= entries.keys()
    if recorded:
        entries = _recorded(entries, path, command.command)
    if given & {"epochs", "steps"}:  # either is the length of a run: that of the command line holds
        entries = {key: entry for key, entry in entries.items() if key not in ("epochs", "steps")}
    written = frozenset() if recorded else frozenset(key.replace("-", "_") for key in entries)
    values = {}
    for key, entry in entries.items():
        name, place = key.replace("-", "_"), f"{where}, line {entry.line}"
        if name not in known or name == "config":
            raise BadInput(f"{place}: unknown setting {key!r}: {nearest(name, known, '`--help` shows all')}")
        if entry.value is not None and name not in given:
            values[name] = _converted(known[name], entry.value, f"{place}: {key}")
    return values, written


def _recorded(entries: Mapping[str, Entry], path: Path, command: str) -> dict[str, Entry]:
    """The options that a run's config.yaml holds: as given, and the training settings as they were worked out."""
    where = f"--config {path}"
    try:
        check_config(path)
    except ValueError as error:
        raise BadInput(f"--config {error}") from error
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


def _converted(each: Declared, value: Any, where: str) -> Any:
    """A value in YAML as the command line would have given it."""
    if each.kind is bool:
        if value not in ("true", "false"):
            raise BadInput(f"{where}={value!r} must be true or false")
        return value == "true"
    if each.many:
        return [_converted_one(each, item, where) for item in (value if isinstance(value, list) else [value])]
    return _converted_one(each, value, where)


def _converted_one(each: Declared, value: Any, where: str) -> Any:
    if not isinstance(value, str):
        raise BadInput(f"{where}={'null' if value is None else value!r} must be a single value")
    try:
        converted = integer(value) if each.kind is int else each.kind(value)
    except ValueError:
        raise BadInput(f"{where}={value!r} is not a valid {each.kind.__name__}") from None
    if each.option.choices and converted not in each.option.choices:
        raise BadInput(f"{where}={value!r} must be one of {', '.join(each.option.choices)}")
    return converted
