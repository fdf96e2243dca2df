"""Words of messages, the same wherever something is refused."""

from __future__ import annotations

import re
from typing import Any

_BY_LETTERS = re.compile(r"[A-Z][A-Z0-9]|nd")  # MSELoss, L1Loss and ndarray begin with a letter that is named
_LIKE_YOU = re.compile(r"[Uu](?:int|ni[^n]|s[aeiu])")  # uint8, Union, UserDict


def kind_of(value: Any) -> str:
    """What kind of thing a value is, with its article: `an int`, `a Tensor`, `None`."""
    if value is None:
        return "None"
    name = type(value).__name__
    if _BY_LETTERS.match(name):
        vowel = name[0] in "AEFHILMNORSXn"
    else:
        vowel = name[0].lower() in "aeiou" and not _LIKE_YOU.match(name)
    return f"{'an' if vowel else 'a'} {name}"


def in_one_line(error: BaseException) -> str:
    """The kind of an error and its message, where it has one."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
