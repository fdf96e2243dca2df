"""What single tasks' heads are trained with: `left:lr=0.1,dropout=0.2+right:l2=0.01`, and `heads.left.lr` of one value.

It is declared here without torch, which the command line does not load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from urllib.parse import unquote

from mtl.hyperparameters import show
from mtl.suggestions import nearest

#: Begins the name of one value of one task's head.
HEADS = "heads."
#: What a task's head may have for itself; `head_lr` and so on are the same of all heads.
KEYS = ("lr", "weight_decay", "l1", "l2", "dropout")
_READ_APART = str.maketrans({sign: f"%{ord(sign):02X}" for sign in "%+:,="})  # within a task's name

#: By task, then by key.
Heads = Mapping[str, Mapping[str, float]]


@cache
def read_heads(text: str) -> Heads:
    """Values by task from a spec; `%2B` and the like stand for signs that a spec is read by.

    Raises:
        ValueError: it cannot be read, has a task or a key twice, or a key that heads do not have; one line.
    """
    found: dict[str, Mapping[str, float]] = {}
    for part in text.split("+") if text else ():
        task, colon, pairs = part.partition(":")
        task = unquote(task.strip())
        if not (task and colon and pairs.strip()):
            raise ValueError(f"heads={text}: {part.strip()!r} is not TASK:KEY=VALUE, such as left:lr=0.1,dropout=0.2")
        if task in found:
            raise ValueError(f"heads={text}: it has task {task!r} twice")
        found[task] = MappingProxyType(_read_pairs(text, pairs))
    return MappingProxyType(found)


def _read_pairs(text: str, pairs: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in pairs.split(","):
        key, _, value = (piece.strip() for piece in pair.partition("="))
        if key not in KEYS:
            raise ValueError(f"heads={text}: a head has no {key!r}: {nearest(key, KEYS)}")
        if key in found:
            raise ValueError(f"heads={text}: it has {key} twice")
        try:
            found[key] = float(value)
        except ValueError:
            raise ValueError(f"heads={text}: {key}={value!r} cannot be read as float") from None
    return found


def write_heads(heads: Heads) -> str:
    """The spec that `read_heads` reads back; tasks without a value are left out."""
    parts = []
    for task, values in heads.items():
        pairs = [f"{key}={show(values[key])}" for key in KEYS if key in values]
        if pairs:
            parts.append(f"{task.translate(_READ_APART)}:{','.join(pairs)}")
    return "+".join(parts)


def changed_heads(heads: Heads, values: Mapping[str, float | None]) -> Heads:
    """Heads with single values over theirs, by the names of `head_names`; None takes a value away.

    Raises:
        ValueError: a name without a task, or with a key that heads do not have; one line.
    """
    found = {task: dict(own) for task, own in heads.items()}
    for name, value in values.items():
        task, _, key = name.removeprefix(HEADS).rpartition(".")
        if not task or key not in KEYS:
            hint = nearest(key, KEYS) if task else "heads.TASK.KEY is wanted, such as heads.left.lr"
            raise ValueError(f"unknown training setting {name!r}: {hint}")
        own = found.setdefault(task, {})
        own.pop(key, None)
        if value is not None:
            own[key] = value
    return found


def head_names(tasks: Iterable[str]) -> dict[str, str]:
    """The name of each value of each task's head, with the training setting that is the same of all heads."""
    return {f"{HEADS}{task}.{key}": f"head_{key}" for task in tasks for key in KEYS}
