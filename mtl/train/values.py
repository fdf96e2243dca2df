"""What a search writes of a run, by flat names, and the member of a cohort that it stands for."""

from __future__ import annotations

from typing import Any

from mtl.strategies import make
from mtl.train.member import Member

#: Flat names and values: `strategy`, `strategy.UNIT.KEY`, `loss.TASK`, `loss.TASK.KEY`, `heads.TASK.KEY`, or a training
#: setting.
Values = dict[str, Any]


def make_member(values: Values, seed: int) -> Member:
    """The member of a cohort that `values` stand for.

    Args:
        values: by flat names, see `Values`.
        seed: of the member.

    Raises:
        ValueError: a value is out of range.
    """
    settings: dict[str, Any] = {}
    losses: dict[str, dict[str, Any]] = {}
    units: dict[str, Any] = {}
    for name, value in values.items():
        kind, _, rest = name.partition(".")
        if kind == "strategy":
            if rest:
                units[rest] = value
        elif kind == "loss":
            task, _, key = rest.partition(".")
            losses.setdefault(task, {})[key or "name"] = value
        else:
            settings[name] = value
    return Member(str(make(values["strategy"], **units)), seed, settings, losses)
