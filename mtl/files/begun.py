"""Whether a directory holds more of a study than its settings."""

from __future__ import annotations

from pathlib import Path

# What runs leave, whether finished or on their way; auto.json has the time that a decision has spent.
_LEFT = ("results.jsonl", "schedule.jsonl", "checkpoints", "auto.json")


def begun(directory: Path) -> bool:
    """Whether there is more than settings: results, a schedule, checkpoints or a decision."""
    return any((directory / name).exists() for name in _LEFT)
