"""How W&B is logged to: the words for it, and what holds where the user gives none. Imports nothing, as parsers do."""

from __future__ import annotations

import os

MODES = ("offline", "online", "disabled")
_OLDER_WORDS = {"dryrun": "offline", "run": "online"}  # W&B's own, for its variable


def usual_mode() -> str:
    """What W&B's own variable `WANDB_MODE` says, or `offline`; it may be no mode, see `check_word`."""
    said = os.environ.get("WANDB_MODE") or "offline"
    return _OLDER_WORDS.get(said, said)


def check_word(mode: str) -> None:
    """Raise `ValueError`, one line, if there is no such mode."""
    if mode not in MODES:
        raise ValueError(f"W&B mode {mode!r}, of an option or of WANDB_MODE: must be one of {', '.join(MODES)}")
