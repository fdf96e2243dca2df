"""What a driver of Ray Tune left: whether an experiment can be gone on from.

Left to itself, Tune begins another one where it cannot read the state of this one: of a single trial, and in silence.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ray import tune

_STATES = "experiment_state-*.json"  # one for each driver, named after the time at which it began


class Unrestored(Exception):
    """Tune does not go on with the trials of an experiment."""


def left_by(path: Path) -> frozenset[str]:
    """The names of the trials of the experiment in `path`; none where one is to begin there.

    Raises:
        Unrestored: Tune's own state of it is not whole.
    """
    states = sorted(path.glob(_STATES))
    if not states:
        if path.exists():
            shutil.rmtree(path)  # no trial has reported anything
        return frozenset()
    if not tune.Tuner.can_restore(str(path)):
        raise Unrestored
    try:
        content = json.loads(states[-1].read_text(encoding="utf-8"))
        return frozenset(json.loads(trial)["trial_id"] for trial, _ in content["trial_data"])
    except (ValueError, KeyError) as error:
        raise Unrestored from error


def put_aside(path: Path, tell: Callable[[str], None]) -> None:
    """Give the experiment in `path` another name, and say so."""
    aside = next(name for k in itertools.count(1) if not (name := path.with_name(f"{path.name}-{k}")).exists())
    path.rename(aside)
    tell(f"Ray Tune cannot read what it left in {path}: the search starts over; that is in {aside} now")
