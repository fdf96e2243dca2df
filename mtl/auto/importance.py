"""What each choice brought: functional analysis of variance of a forest, by parts and by dimensions, with interactions.

Of a function of independent variables the variance splits into that of its main effects and of interactions
(Hoeffding 1948; Hutter, Hoos & Leyton-Brown, ICML 2014). The function is a forest of regression trees that is fitted to
the runs of the race, and the variables are blocks of columns, so that a loss and its own parameters count together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtl.auto.parts import PARTS, part_of
from mtl.stats.importance import expanded, numeric, spans_decades

_FEWEST = 16  # runs below which a forest says nothing
_TREES, _BACKGROUND, _DRAWN = 100, 64, 256
_ABSENT = -0.5  # beside numbers from 0 to 1: a parameter that does not exist in a run

Array = npt.NDArray[np.float64]


class Importance(NamedTuple):
    """Shares of the variance of the forest.

    Attributes:
        explained: the share of the variance between runs that the forest predicts of runs that it has not seen.
        runs: that it was fitted to.
        step: of the runs at which they were compared.
        parts: main effect of each part.
        pairs: interaction of two parts, by `first × second`.
        dimensions: main effect of each dimension, with the parameters that exist beside its choices apart.
    """

    explained: float
    runs: int
    step: int
    parts: dict[str, float]
    pairs: dict[str, float]
    dimensions: dict[str, float]


def importance_of(runs: Sequence[tuple[Mapping[str, Any], Mapping[int, float]]]) -> Importance | None:
    """How much of the differences between runs each choice explains; None where there are too few to say.

    Args:
        runs: of each its values and its score by step, higher is better.
    """
    step = _common_step([scores for _, scores in runs])
    kept = [(expanded(values), scores[step]) for values, scores in runs if math.isfinite(scores.get(step, math.nan))]
    if len(kept) < _FEWEST:
        return None
    scores = np.array([score for _, score in kept])
    # One run that has gone astray would be all of the variance.
    scores = np.clip(
        scores, np.quantile(scores, 0.1) - 1.5 * (np.quantile(scores, 0.9) - np.quantile(scores, 0.1)), None
    )
    table, names = _table([values for values, _ in kept])
    if not names or float(scores.std()) == 0:
        return None
    from sklearn.ensemble import RandomForestRegressor  # takes a second to import

    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, oob_score=True, random_state=0, n_jobs=1)
    forest.fit(table, scores)
    effects = _Effects(forest.predict, table)
    by_part = {part: [k for k, name in enumerate(names) if part_of(name) == part] for part in PARTS}
    by_part = {part: columns for part, columns in by_part.items() if columns}
    parts = {part: effects.share(columns) for part, columns in by_part.items()}
    pairs = {
        f"{one} × {other}": max(0.0, effects.share(by_part[one] + by_part[other]) - parts[one] - parts[other])
        for one, other in itertools.combinations(by_part, 2)
    }
    dimensions: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        dimensions.setdefault(name, []).append(k)
    singles = {name: effects.share(columns) for name, columns in dimensions.items()}
    return Importance(float(forest.oob_score_), len(kept), step, parts, pairs, _sorted(singles))


def _common_step(scores: Sequence[Mapping[int, float]]) -> int:
    """The last step at which at least half of the runs, and enough of them, were evaluated."""
    steps = sorted({step for each in scores for step in each}, reverse=True)
    enough = max(_FEWEST, len(scores) / 2)
    return next((step for step in steps if sum(step in each for each in scores) >= enough), -1)


def _table(rows: Sequence[Mapping[str, Any]]) -> tuple[Array, list[str]]:
    """Columns from 0 to 1, and the dimension that each belongs to; choices have a column for each."""
    names = sorted({name for row in rows for name in row})
    columns: list[list[float]] = []
    found: list[str] = []
    for name in names:
        values, dimension = [row.get(name) for row in rows], name.partition("[")[0]
        there = [value for value in values if value is not None]
        if numeric(there) and len(set(there)) > 1:
            scale: Callable[[float], float] = math.log if spans_decades(there) else float
            low, high = scale(min(there)), scale(max(there))
            columns.append([_ABSENT if v is None else (scale(v) - low) / (high - low) for v in values])
            found.append(dimension)
            continue
        kinds = sorted({str(value) for value in there})
        for kind in kinds if len(kinds) > 1 else ():
            columns.append([_ABSENT if v is None else float(str(v) == kind) for v in values])
            found.append(dimension)
    return np.array(columns, dtype=float).reshape(len(columns), len(rows)).T, found


class _Effects:
    """Variances of means of a function over the columns that are not held."""

    def __init__(self, predict: Callable[[Array], Array], table: Array) -> None:
        self._predict, self._table = predict, table
        rng = np.random.default_rng(0)
        self._background = table[rng.integers(len(table), size=_BACKGROUND)]
        self._rows = rng.integers(len(table), size=_DRAWN)
        self._total = float(predict(self._drawn(list(range(table.shape[1])))).var())

    def _drawn(self, columns: Sequence[int]) -> Array:
        return self._table[self._rows][:, columns]

    def share(self, columns: list[int]) -> float:
        """The share of the variance that remains when all other columns are averaged over."""
        if self._total == 0:
            return 0.0
        points = np.repeat(self._background[None], _DRAWN, axis=0)  # (drawn, background, columns)
        points[:, :, columns] = self._drawn(columns)[:, None]
        means = self._predict(points.reshape(-1, points.shape[-1])).reshape(_DRAWN, _BACKGROUND).mean(1)
        return min(1.0, float(means.var()) / self._total)


def _sorted(shares: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda each: -each[1]))
