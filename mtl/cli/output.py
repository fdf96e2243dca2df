"""What is printed where a terminal's encoding lacks a character: nothing ends a study, and `±` is more than a `?`."""

from __future__ import annotations

import codecs
import unicodedata

_PLAIN = {
    "Δ": "Delta ",
    "Σ": "sum ",
    "±": "+-",
    "∓": "-+",
    "−": "-",
    "–": "-",
    "·": "-",
    "×": "x",
    "≤": "<=",
    "√": "sqrt ",
    "‖": "||",
    "↑": "^",
    "↓": "v",
    "→": "->",
    "▸": ">",
    "◂": "<",
    "µ": "u",
}


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for the first character that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, after = error.object[error.start], error.start + 1
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte of a file's name that Python could not decode (PEP 383)
        return bytes([ord(character) - 0xDC00]), after
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()  # á is a, and ² is 2
    return _PLAIN.get(character) or letters or "?", after


#: The error handler of streams that people read.
READABLE = "mtl-readable"
codecs.register_error(READABLE, _readable)
