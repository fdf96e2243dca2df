"""`auto.json`: how far a decision is, so that a process that was killed is gone on with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.auto.finals import Finalist
from mtl.auto.plan import TimePlan
from mtl.files.lineage import tupled
from mtl.files.whole import write_whole
from mtl.search.space import Values

FILE = "auto.json"


@dataclass(frozen=True)
class Leader:
    """The best run of a race so far.

    Attributes:
        run: its name.
        trial: its number.
        seed: of it.
        values: by flat names, as of a search.
        step: of its best evaluation.
        objective: reached then, by name.
        selection: the mean skill then.
    """

    run: str
    trial: int
    seed: int
    values: Values
    step: int
    objective: Mapping[str, float | None]
    selection: float


@dataclass(frozen=True)
class AutoState:
    """How far a decision is.

    Attributes:
        elapsed: seconds that it has taken.
        plan: how time is spent; None before it was made.
        pace: of the race, (seconds, steps of all runs) after segments that lie apart a little.
        leader: of the race; None before its first evaluation.
        finalists: that are compared; empty before the race is over.
        path: points between the default and the winner; empty before the finals are over.
        path_seeds: seeds of each.
        ended: when each part was over, in seconds: `race`, `final`, `path`.
    """

    elapsed: float = 0.0
    plan: TimePlan | None = None
    pace: tuple[tuple[float, int], ...] = ()
    leader: Leader | None = None
    finalists: tuple[Finalist, ...] = ()
    path: tuple[Finalist, ...] = ()
    path_seeds: int = 0
    ended: Mapping[str, float] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write it, whole or not at all."""
        plain = dataclasses.asdict(self)
        write_whole(directory / FILE, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def read_state(directory: Path) -> AutoState:
    """What `save` has written; a decision that has not begun where there is no file.

    Raises:
        ValueError: the file is not one that this version has written; one line.
    """
    path = directory / FILE
    if not path.exists():
        return AutoState()
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return AutoState(
            elapsed=float(plain["elapsed"]),
            plan=None if plain["plan"] is None else TimePlan.of(plain["plan"]),
            pace=tuple((float(seconds), int(steps)) for seconds, steps in plain["pace"]),
            leader=None if plain["leader"] is None else _leader(plain["leader"]),
            finalists=tuple(_finalist(each) for each in plain["finalists"]),
            path=tuple(_finalist(each) for each in plain["path"]),
            path_seeds=int(plain["path_seeds"]),
            ended={str(part): float(at) for part, at in plain["ended"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read, so the decision cannot be gone on with: {error!r}") from error


def _finalist(plain: Mapping[str, Any]) -> Finalist:
    return Finalist(plain["label"], tupled(plain["values"]), plain["trial"])


def _leader(plain: Mapping[str, Any]) -> Leader:
    return Leader(**{**plain, "values": tupled(plain["values"])})
