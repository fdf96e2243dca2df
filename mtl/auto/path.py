"""From the default to the winner, a part at a time: what each part brings on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.auto.finals import Finalist
from mtl.auto.importance import Importance, importance_of
from mtl.auto.parts import PARTS, part_of
from mtl.report.read import RecordedRun
from mtl.search.space import Values


def importance_in(race: Sequence[RecordedRun]) -> Importance | None:
    """What each choice brought in a race; None where too few runs were compared.

    Args:
        race: its runs; the default, which has no choices, is left out.
    """
    found = []
    for run in race:
        if not run.record["trial"] or not (history := run.history()):
            continue
        pairs = zip(history.get("search_step", ()), history.get("search_scores", ()), strict=False)
        # Scores are as the search maximised them, whatever the objective.
        scores = {int(step): float(some[0]) for step, some in pairs if some[0] is not None}
        found.append((run.record["hyperparameters"], scores))
    return importance_of(found)


def path_between(usual: Values, winner: Values, importance: Mapping[str, float]) -> list[Finalist]:
    """The points between the default and the winner, each with one more part of the winner than the one before.

    Args:
        usual: values of the default.
        winner: values of the winner.
        importance: of the parts; the most important comes first.
    """
    changed: dict[str, Values] = {}
    for name, value in winner.items():
        if usual.get(name) != value:
            changed.setdefault(part_of(name), {})[name] = value
    order = sorted(changed, key=lambda part: (-importance.get(part, 0.0), PARTS.index(part)))
    found, values = [], dict(usual)
    for part in order[:-1]:
        values = {**values, **changed[part]}
        found.append(Finalist(f"+ {part}", dict(values)))
    return found


def last_part(usual: Values, winner: Values, path: Sequence[Finalist]) -> str:
    """The part by which the winner differs from the last point before it."""
    before = path[-1].values if path else usual
    return next((part_of(name) for name, value in winner.items() if before.get(name) != value), "")
