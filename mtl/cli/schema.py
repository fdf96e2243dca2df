"""`mtl schema`: JSON Schemas by which editors complete and check a file of options, and of what a run writes."""

from __future__ import annotations

import json
from typing import Any

from mtl.cli.declared import Declared, declared
from mtl.cli.options import CompareOptions, SchemaOptions, SearchOptions, TrainOptions
from mtl.files.config import Config
from mtl.files.lineage import Event
from mtl.files.records import Record
from mtl.files.schema import json_schema

_TYPES = {bool: "boolean", int: "integer", float: "number"}


def schema(options: SchemaOptions) -> int:
    """`mtl schema`."""
    print(json.dumps(schema_of(options.what), indent=2))
    return 0


def schema_of(what: str) -> dict[str, Any]:
    """The JSON Schema of a file: `config`, a line of `results`, or a line of `schedule`."""
    if what == "results":
        return json_schema(Record, "A finished run: a line of results.jsonl")
    if what == "schedule":
        return json_schema(Event, "An event of a search: a line of schedule.jsonl")
    made = json_schema(Config, "Options of mtl train, compare and search, or the config.yaml of a run")
    recorded = {"$ref": made.pop("$ref")}
    return {**made, "if": {"required": ["tasks"]}, "then": recorded, "else": _options()}


def _options() -> dict[str, Any]:
    """A file for `--config`: the options of the three commands, with underscores or dashes, and nothing else."""
    known = {each.name: each for command in (SearchOptions, CompareOptions, TrainOptions) for each in _kept(command)}
    schemas = {name: _option(each) for name, each in known.items()}
    dashed = {f"^{name.replace('_', '-')}$": about for name, about in schemas.items() if "_" in name}
    return {
        "type": "object",
        "properties": schemas,
        "patternProperties": dashed,  # editors complete the names with underscores, which runs record
        "additionalProperties": False,
    }


def _kept(command: type) -> list[Declared]:
    return [each for each in declared(command).values() if each.option.place != "hidden" and each.name != "config"]


def _option(each: Declared) -> dict[str, Any]:
    """What an option may be; null leaves it at its default."""
    about, said = each.about, dict[str, Any](description=each.help())
    kind = _TYPES.get(each.kind, "string")
    if each.many:
        one = {"type": kind}
        return {**said, "anyOf": [{"type": "array", "items": one}, one, {"type": "null"}]}
    if each.usual is not None:
        said["default"] = each.usual
    bounds = {"exclusiveMinimum" if about.above else "minimum": about.low, "maximum": about.high}
    said |= {name: bound for name, bound in bounds.items() if bound is not None}
    if about.choices:
        return {**said, "enum": [*about.choices, None]}
    return {**said, "type": [kind, "null"]}
