"""Checks what a file holds against the type of it, and says where in the file it is something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

Keys = tuple[str | int, ...]
_SAID = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?")
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<place>\d+|\.\.\.)\]")


class Fault(NamedTuple):
    """What is wrong with a value.

    Attributes:
        what: in a few words.
        keys: that lead to it from the top.
    """

    what: str
    keys: Keys

    def __str__(self) -> str:
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)
        return f"${place}: {self.what}" if place else self.what


def fault(value: Any, kind: Any) -> Fault | None:
    """The first place at which plain values, as of JSON or YAML, are not of a type; None where they are.

    Fields that the type does not have are no fault: a later version may have written them.
    """
    said = _complaint(value, kind)
    if said is None:
        return None
    found = _SAID.fullmatch(said)
    assert found is not None
    what = found["what"].replace("`", "")
    keys: Keys = ()
    for step in _STEP.finditer(found["path"] or ""):
        key: str | int | None = step["name"] or (int(step["place"]) if step["place"] != "..." else None)
        if key is None:  # some key of a mapping: msgspec does not say which
            key = next(key for key in _at(value, keys) if _complaint(_only(value, keys, key), kind) == said)
        keys = (*keys, key)
    return Fault(what[0].lower() + what[1:], keys)


def _complaint(value: Any, kind: Any) -> str | None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def _at(value: Any, keys: Keys) -> Any:
    for key in keys:
        value = value[key]
    return value


def _only(value: Any, keys: Keys, key: str) -> Any:
    """The same value, of which the mapping at `keys` has nothing but `key`."""
    if not keys:
        return {key: value[key]}
    inside = _only(value[keys[0]], keys[1:], key)
    if isinstance(value, Mapping):
        return {**value, keys[0]: inside}
    return [inside if place == keys[0] else item for place, item in enumerate(value)]


def json_schema(kind: Any, title: str) -> dict[str, Any]:
    """The JSON Schema of a type."""
    schema = msgspec.json.schema(kind)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
