"""Searchers of Ray Tune that know our spaces, and give each trial a seed of its own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from mtl.search.methods import Problem
from mtl.search.space import Values
from mtl.search.space.to_tune import in_words, to_tune


class _Suggest:
    """Optuna's own way of a space in which parameters exist only beside some choices."""

    def __init__(self, problem: Problem, constants: Mapping[str, Any]) -> None:
        self._problem, self._constants = problem, dict(constants)

    def __call__(self, trial: Any) -> Values:
        values = {name: in_words(value) for name, value in self._problem.space.suggest(trial).items()}
        return {**self._constants, **values, "seed": self._problem.seed + trial.number}


def optuna(problem: Problem, constants: Mapping[str, Any], metric: str, mode: str) -> Any:
    """Optuna's tree-structured Parzen estimator."""
    import optuna as library
    from ray.tune.search.optuna import OptunaSearch

    class Ours(OptunaSearch):
        def save(self, checkpoint_path: str) -> None:
            """Without the space, which is known anyway, and which plain pickle does not take with all that is in it."""
            space = self.__dict__.pop("_space")
            try:
                super().save(checkpoint_path)
            finally:
                self._space = space

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            with warnings.catch_warnings():  # a segment that was trained again is reported again
                warnings.filterwarnings("ignore", message="The reported value is ignored")
                super().on_trial_result(trial_id, result)

    library.logging.set_verbosity(library.logging.ERROR)
    suggest = _Suggest(problem, constants)
    return Ours(space=suggest, metric=metric, mode=mode, sampler=library.samplers.TPESampler(seed=problem.seed))


def bohb(problem: Problem, constants: Mapping[str, Any], metric: str, mode: str) -> Any:
    """The kernel density estimator of BOHB."""
    from ray.tune.search.bohb import TuneBOHB

    space = TuneBOHB.convert_search_space(_varied(problem))
    made = _seeded(TuneBOHB, problem, constants)(space=space, metric=metric, mode=mode, seed=problem.seed)
    made.all_constants = _constant(problem)
    return made


def hyperopt(problem: Problem, constants: Mapping[str, Any], metric: str, mode: str) -> Any:
    """HyperOpt's tree-structured Parzen estimator."""
    from ray.tune.search.hyperopt import HyperOptSearch

    cls = _seeded(HyperOptSearch, problem, constants)
    made = cls(space=_varied(problem), metric=metric, mode=mode, random_state_seed=problem.seed)
    made.all_constants = _constant(problem)
    return made


def _varied(problem: Problem) -> dict[str, Any]:
    return {
        name: value
        for name, value in to_tune(problem.space.dimensions, conditional=False).items()
        if hasattr(value, "sample")
    }


def _constant(problem: Problem) -> dict[str, Any]:
    drawn = to_tune(problem.space.dimensions, conditional=False)
    return {name: value for name, value in drawn.items() if not hasattr(value, "sample")}


def _seeded(base: type[Any], problem: Problem, constants: Mapping[str, Any]) -> type[Any]:
    """The searcher with constants and a seed in each of its suggestions."""

    class Seeded(base):  # type: ignore[misc]
        suggested = 0
        all_constants: Mapping[str, Any] = {}

        def suggest(self, trial_id: str) -> Any:
            found = super().suggest(trial_id)
            if not isinstance(found, dict):
                return found
            self.suggested += 1
            return {**constants, **self.all_constants, **found, "seed": problem.seed + self.suggested - 1}

    Seeded.__name__ = base.__name__
    return Seeded
