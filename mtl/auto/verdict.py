"""Who won, and how sure that is: paired tests over seeds and examples that played no part in the race."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mtl.auto.finals import USUAL_LABEL
from mtl.stats import Paired, mean_interval, paired_over_examples
from mtl.stats.intervals import Interval

_LEVEL = 0.05
#: A winner is taken where the chance that it is the worse one is at most this: half of that of its being better.
MOST_DOUBT = 1 / 3


class OnHoldout(NamedTuple):
    """What a point reached on the holdout.

    Attributes:
        scores: by seed, higher is better; None for a run without a result.
        without: by seed, the scores without each fold of the examples in turn; empty where they are not known.
    """

    scores: dict[int, float | None]
    without: dict[int, Sequence[float | None]]

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a run."""
        self.scores[record["seed"]] = record["holdout_score"]
        self.without[record["seed"]] = record.get("holdout_without") or ()

    def against(self, other: OnHoldout) -> Paired:
        """The gain over another point under the same seeds, for other seeds and other examples."""
        return paired_over_examples(self.scores, other.scores, self.without, other.without)


@dataclass(frozen=True)
class Compared:
    """A finalist under all its seeds.

    Attributes:
        label: its name.
        scores: the objective on the holdout by seed, higher is better; None for a run without a result.
        mean: of these.
        picked_by: the mean objective on the examples that select, higher is better.
        against: the default under the same seeds; None for the default itself.
        seconds: of training a run, in the mean.
    """

    label: str
    scores: Mapping[int, float | None]
    mean: Interval
    against: Paired | None
    picked_by: float
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether every run has a result."""
        return bool(self.scores) and all(score is not None for score in self.scores.values())

    @property
    def better(self) -> bool:
        """Whether it is better than the default beyond what seeds and the choice of examples explain."""
        p_value = None if self.against is None else self.against.p_value
        return self.ahead and p_value is not None and p_value < _LEVEL

    @property
    def ahead(self) -> bool:
        """Whether its mean is better than that of the default."""
        difference = None if self.against is None else self.against.difference.mean
        return difference is not None and difference > 0

    @property
    def doubt(self) -> float | None:
        """The chance that it is worse than the default, from what seeds and the choice of examples explain; None where
        they cannot tell.

        That is the one-sided p-value of the test: the posterior probability, where nothing was known of the difference
        and its spread (Jeffreys' prior).
        """
        p_value = None if self.against is None else self.against.p_value
        if p_value is None:
            return None
        return p_value / 2 if self.ahead else 1 - p_value / 2

    @property
    def worth_it(self) -> bool:
        """Whether it is so likely better than the default that it should be taken."""
        return self.whole and self.doubt is not None and self.doubt <= MOST_DOUBT


@dataclass(frozen=True)
class Verdict:
    """What was decided.

    Attributes:
        compared: the finalists, the best mean on the examples that select first; those with runs without a result last.
        winner: label of the first. It is picked by these, so that its test on the holdout is a single one.
        chosen: label of what is recommended: the winner where it is twice as likely better than the default as
            worse, in runs that are long enough to tell; otherwise the default.
        rivals: labels of finalists that cannot be told apart from the winner.
    """

    compared: Sequence[Compared]
    winner: str
    chosen: str
    rivals: Sequence[str]

    def of(self, label: str) -> Compared:
        """A finalist by its label."""
        return next(each for each in self.compared if each.label == label)


def compare(
    records: Sequence[Mapping[str, Any]], objective: Mapping[str, bool], *, telling: bool = True
) -> Verdict | None:
    """Compare the finalists; None where the default has no result to compare with.

    Args:
        records: of the finals.
        objective: by name, whether higher is better.
        telling: whether the runs were long enough to tell what is better in full ones; the default is taken otherwise.
    """
    name, higher = next(iter(objective.items()))
    reached: dict[str, list[float]] = {}
    found: dict[str, OnHoldout] = {}
    seconds: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record["strategy"], OnHoldout({}, {})).add(record)
        value = (record.get("objective") or {}).get(name)
        reached.setdefault(record["strategy"], []).append(-math.inf if value is None else value if higher else -value)
        seconds.setdefault(record["strategy"], []).append(float((record.get("cost") or {}).get("seconds") or 0.0))
    usual = found.get(USUAL_LABEL)
    if usual is None or not any(score is not None for score in usual.scores.values()):
        return None
    compared = [
        Compared(
            label,
            each.scores,
            mean_interval(list(each.scores.values())),
            None if label == USUAL_LABEL else each.against(usual),
            sum(reached[label]) / len(reached[label]),
            sum(seconds[label]) / len(seconds[label]),
        )
        for label, each in found.items()
    ]
    compared.sort(key=lambda each: (not each.whole, -each.picked_by))
    winner = compared[0]
    between = {each.label: found[each.label].against(found[winner.label]).p_value for each in compared[1:]}
    alike = [each.label for each in compared[1:] if each.whole and ((p := between[each.label]) is None or p >= _LEVEL)]
    chosen = winner.label if telling and winner.worth_it else USUAL_LABEL
    return Verdict(compared, winner.label, chosen, alike)
