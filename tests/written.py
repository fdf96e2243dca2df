"""What was written to a disk, read back."""

from __future__ import annotations

import io
import json

import torch


def lines_of(path):
    """The values of a file with one of JSON a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def records_of(out):
    """The finished runs, in the order in which they ended."""
    return lines_of(out / "results.jsonl")


def events_of(out):
    """The schedule of a search."""
    return lines_of(out / "schedule.jsonl")


def summary_of(out):
    """The summary."""
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def through_disk(state):
    """A state as it comes back from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
