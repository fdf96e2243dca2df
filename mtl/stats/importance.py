"""Which parameters mattered: functional ANOVA (Hutter et al., ICML 2014), by Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

_FEWEST = 8  # runs below which a forest of regression trees says nothing


def importances(records: Sequence[Mapping[str, Any]], objective: Mapping[str, bool]) -> dict[str, float]:
    """How much of the variance of the first objective each parameter explains, largest first.

    Only parameters that all runs have can be compared, so those that exist beside some choices are left out. So are
    runs that were stopped early or broke. Empty where there is too little to go by.

    Args:
        records: of the runs of a search.
        objective: the search's objectives by name, and whether higher is better.
    """
    name = next(iter(objective))
    whole = [r for r in records if r["status"] == "done" and r["objective"].get(name) is not None]
    columns = varying([expanded(record["hyperparameters"]) for record in whole])
    scores = [float(record["objective"][name]) for record in whole]
    if len(whole) < _FEWEST or not columns or max(scores) == min(scores):
        return {}
    # Optuna takes half a second to import, and only this part of a report needs it.
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kinds = {key: _distribution(optuna.distributions, values) for key, values in columns.items()}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={key: _number_or_text(columns[key][row]) for key in columns},
                distributions=kinds,
                value=scores[row],
            )
            for row in range(len(whole))
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, with each weight on the simplex by itself: `NAME[0]`, `NAME[1]`, ..."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list | tuple):
            flat |= {f"{name}[{place}]": item for place, item in enumerate(value)}
        else:
            flat[name] = value
    return flat


def varying(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The columns that all rows have and in which not all agree."""
    names = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
    columns = {name: [row[name] for row in rows] for name in names}
    return {name: column for name, column in columns.items() if any(value != column[0] for value in column)}


def numeric(column: Sequence[Any]) -> bool:
    """Whether a column holds numbers only."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)


def spans_decades(column: Sequence[float]) -> bool:
    """Whether a column of numbers is better shown on a logarithmic axis."""
    return min(column) > 0 and max(column) / min(column) > 20


def _distribution(kinds: Any, column: Sequence[Any]) -> Any:
    if not numeric(column):
        return kinds.CategoricalDistribution(sorted({_number_or_text(value) for value in column}, key=str))
    return kinds.FloatDistribution(min(column), max(column), log=spans_decades(column))


def _number_or_text(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
