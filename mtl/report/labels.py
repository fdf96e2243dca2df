"""How the compared are called where there is little room: in figures and in heads of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.files.python_files import without_folders
from mtl.report.numbers import shortened

_LONG = 42  # characters of a label, beyond which names of settings are left out
_HEAD = 24  # characters of a name within a head


def noun(summary: Mapping[str, Any]) -> str:
    """What one of the compared is called."""
    return "variant" if summary.get("compared") == "variants" else "strategy"


def reference_in_heads(summary: Mapping[str, Any], most: int = _HEAD) -> str:
    """The reference by its name, where that is short."""
    name = str(summary["reference"])
    return name if len(name) <= most else "the reference"


def table_labels(summary: Mapping[str, Any]) -> dict[str, str]:
    """A name each, without what all have in common."""
    ranking = list(summary["ranking"])
    parts = _parts(ranking)
    if noun(summary) == "strategy" or not parts:
        return dict(zip(ranking, _named_by_file(ranking), strict=True))
    return {spec: ", ".join(row) for spec, row in zip(ranking, parts, strict=True)}


def short_labels(summary: Mapping[str, Any]) -> dict[str, str]:
    """A label each: what all have in common is left out and, if it is still long, the names of settings too."""
    ranking = list(summary["ranking"])
    parts = _parts(ranking)
    if not parts:
        return {spec: shortened(name) for spec, name in zip(ranking, _named_by_file(ranking), strict=True)}
    labels = [", ".join(row) for row in parts]
    if _aligned(parts) and max(map(len, labels)) > _LONG:
        labels = [", ".join(part.partition("=")[2] or part for part in row) for row in parts]
    if len(set(labels)) < len(labels):
        return {spec: shortened(spec) for spec in ranking}
    return {spec: shortened(label) for spec, label in zip(ranking, labels, strict=True)}


def labels_in_words(summary: Mapping[str, Any]) -> str:
    """A sentence that says how to read the labels; empty where they are the names."""
    ranking, short = list(summary["ranking"]), short_labels(summary)
    parts = _parts(ranking)
    if not parts or all(short[spec] == shortened(spec) for spec in ranking):
        return ""
    if all(short[spec] == shortened(", ".join(row)) for spec, row in zip(ranking, parts, strict=True)):
        return "Labels leave out what all have in common."
    names = [part.partition("=")[0] if "=" in part else "strategy" for part in parts[0]]
    return f"Labels are the values of {', '.join(names)}."


def _named_by_file(ranking: Sequence[str]) -> list[str]:
    """Strategies of users' files by the names of these, without their folders, where that tells them apart."""
    names = [without_folders(spec) for spec in ranking]
    return [name if names.count(name) == 1 else spec for name, spec in zip(names, ranking, strict=True)]


def _parts(ranking: Sequence[str]) -> list[list[str]]:
    """What each variant is put together from, without what all have in common; empty where they are no variants."""
    rows = [spec.split(", ") for spec in ranking]
    if len(rows) < 2 or max(map(len, rows)) < 2:
        return []
    common = set(rows[0]).intersection(*rows)
    return [[part for part in row if part not in common] or row for row in rows]


def _aligned(rows: Sequence[Sequence[str]]) -> bool:
    """Whether all have the same settings in the same order."""
    return len({tuple(part.partition("=")[0] if "=" in part else "" for part in row) for row in rows}) == 1
