"""Reads and writes YAML of version 1.2; a fault is named with its line. All YAML of users is read here.

PyYAML reads version 1.1, where `no` is false, `010` is eight, `1:15` is seventy-five, `1e-3` is text, and the last of
two equal keys wins. Its parser is used, its understanding of values is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


@dataclass(frozen=True)
class Entry:
    """What stands under a key, and the line of the key, from 1."""

    value: Any
    line: int


def read_texts(path: Path) -> dict[str, Entry]:
    """A file that is a mapping, its scalars as they are written: whoever knows the type of each reads it.

    Values are text, lists, mappings, and None for `null` and for nothing.

    Raises:
        ValueError: the file cannot be read, is not YAML in UTF-8, is not a mapping, or has a key twice; one line.
    """
    root = _composed(path)
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise ValueError(f"{path}: a mapping of names to values is wanted, such as `lr: 0.01`")
    build = _Builder(path, lambda text: None if _NULL.fullmatch(text) else text)
    return {key: Entry(build(node), line) for key, line, node in build.pairs(root)}


def read_values(path: Path) -> Any:
    """The content of a file, its scalars read by the rules of YAML 1.2; None if there is nothing in it.

    Raises:
        ValueError: the file cannot be read, is not YAML in UTF-8, or has a key twice; one line.
    """
    root = _composed(path)
    return None if root is None else _Builder(path, typed)(root)


def line_of(path: Path, keys: Sequence[str | int]) -> int:
    """The line, from 1, of what the keys lead to in a file that can be read."""
    node, line = _composed(path), 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            name, node = next(pair for pair in node.value if pair[0].value == str(key))
            line = name.start_mark.line + 1
    return line


def write_values(values: Mapping[str, Any]) -> str:
    """The YAML from which `read_values` reads `values` back."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def typed(text: str) -> Any:
    """What an unquoted scalar stands for."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return integer(text)
    return float(text.replace(".inf", "inf").replace(".nan", "nan")) if _plain_float(text) else text


def integer(text: str) -> int:
    """A whole number: decimal whatever zeros it begins with, or octal and hexadecimal as `0o17` and `0x1f`.

    Raises:
        ValueError: it is none.
    """
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def _plain_float(text: str) -> bool:
    return _FLOAT.fullmatch(text) is not None


class _Builder:
    """Makes values of nodes. A node that is named again (an alias) gives the same value again."""

    def __init__(self, path: Path, plain: Callable[[str], Any]) -> None:
        self._path, self._plain = path, plain
        self._built: dict[int, Any] = {}  # by id of a node; the whole tree lives as long as its builder is called
        self._within: list[yaml.Node] = []

    def __call__(self, node: yaml.Node) -> Any:
        if id(node) in self._built:
            return self._built[id(node)]
        if node.tag not in _TAGS:
            raise self.fault(node, f"the tag {node.tag!r} is not read")
        if any(node is outer for outer in self._within):
            raise self.fault(node, "it contains itself")
        self._within.append(node)
        self._built[id(node)] = value = self._value(node)
        self._within.pop()
        return value

    def _value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._plain(node.value) if node.style is None else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self(item) for item in node.value]
        assert isinstance(node, yaml.MappingNode)
        return {key: self(item) for key, _, item in self.pairs(node)}

    def pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, int, yaml.Node]]:
        """Key, its line, and what stands under it."""
        lines: dict[str, int] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fault(key, "a name is wanted before the colon")
            line = key.start_mark.line + 1
            if key.value in lines:
                raise self.fault(key, f"{key.value!r} stands in line {lines[key.value]} already")
            lines[key.value] = line
            yield key.value, line, item

    def fault(self, node: yaml.Node, what: str) -> ValueError:
        """The error that names the line of `node`."""
        return ValueError(f"{self._path}, line {node.start_mark.line + 1}: {what}")


def _composed(path: Path) -> yaml.Node | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x})") from error
    try:
        # This loader leaves every scalar as it is written.
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"{path}, line {line}: not YAML: a character that text does not have") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(filter(None, (error.context, error.problem)))
        if "'\\t'" in reason:
            reason = "a tab; YAML is indented by spaces"
        raise ValueError(f"{path}, line {mark.line + 1 if mark else 1}: not YAML: {reason}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not YAML: brackets within brackets without end") from error
    return root


class _Dumper(yaml.SafeDumper):
    """Quotes also what is text in version 1.1 and something else in 1.2, such as `1e-3`."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if isinstance(typed(text), str) else "'")


_Dumper.add_representer(str, _text)
