"""The terminal that all commands print to."""

from __future__ import annotations

from rich.console import Console

#: Words between colons are parts of specs, such as `losses.py:Fire:width=2`, and no names of pictures.
console = Console(emoji=False)
