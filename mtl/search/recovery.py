"""The checkpoint that a search goes on from: the last one, the one before if that is damaged, or none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mtl.files.lineage import offset_before
from mtl.study.rundir import RunDirectory
from mtl.train import checkpoint as checkpoints

_CONTENT = {"trials", "alive", "method", "totals", "offset", "cohort", "random"}
_EARLIER = "tally"  # has another name now


def save_state(directory: RunDirectory, search: str, state: Mapping[str, Any]) -> None:
    """Write the checkpoint of a search. As long as a run is alive, the checkpoint before it is kept too."""
    path, lasts = directory.checkpoint(search), bool(state["alive"])
    checkpoints.save(path, dict(state), keep=lasts)
    if not lasts:
        checkpoints.previous(path).unlink(missing_ok=True)


def recovered_state(
    directory: RunDirectory,
    search: str,
    recorded: Collection[str],
    run_name: Callable[[int], str],
    tell: Callable[[str], None],
) -> dict[str, Any] | None:
    """The state of a search at its last sound checkpoint; None where it has to begin.

    Args:
        directory: of the run.
        search: name of the search.
        recorded: names of the runs in results.jsonl.
        run_name: gives the name of a run by its number.
        tell: called with a line about a checkpoint that is missing, damaged or of an earlier version.

    Raises:
        OSError: a checkpoint cannot be read here and now, but may be sound.
    """
    path = directory.checkpoint(search)
    before = checkpoints.previous(path)
    written = directory.schedule_path.stat().st_size if directory.schedule_path.exists() else 0

    state, fault = _read(path, recorded, written, run_name)
    if state is not None:
        return state
    state, _ = _read(before, recorded, written, run_name)
    if state is not None:
        before.replace(path)  # what comes next is kept beside a sound one
        tell(f"checkpoint {path} {fault}: going on from the one before")
    elif path.exists() or before.exists() or offset_before(directory.schedule_path, search) < written:
        tell(f"checkpoint {path} {fault}: the search starts over; what is in results.jsonl stays")
    return state


def _read(
    path: Path, recorded: Collection[str], written: int, run_name: Callable[[int], str]
) -> tuple[dict[str, Any] | None, str]:
    """The state, or what is wrong with it."""
    if not path.exists():
        return None, "is missing"
    try:
        state = checkpoints.load(path)
    except checkpoints.Damaged:
        return None, "cannot be read"
    if state is not None and _EARLIER in state:
        return None, "was written by an earlier version of mtl"
    if state is None or not state.keys() >= _CONTENT:
        return None, "cannot be read"
    ended = {trial["number"] for trial in state["trials"]} - set(state["alive"])
    if state["offset"] > written or any(run_name(number) not in recorded for number in ended):
        return None, "is ahead of the run's other files"
    return state, ""
