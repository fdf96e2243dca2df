"""Optuna's samplers as methods.

A study of Optuna is made anew for each wave, from the points and scores so far. So a checkpoint needs plain values
only, and a resumed search goes on as if it had not stopped.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mtl.search.methods.method import Problem, Start
from mtl.search.methods.waves import Waves
from mtl.search.options import MethodOptions
from mtl.search.space import Values
from mtl.search.space.space import DRAWS

_SAMPLER = 4  # stream of the generator
_BY_MODEL = 5  # refused points of a model, after which they are drawn at random
_STARTUP = 10  # Optuna's own number of runs before a model is made


#: What a study has to know of a point that it proposed, as plain values.
Proposal = dict[str, Any]


class OptunaMethod(Waves):
    """A method whose waves an Optuna sampler proposes."""

    waves: ClassVar[int] = 4

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        self._asked: list[Proposal] = []

    @property
    def startup(self) -> int:
        """Runs that are drawn at random before the sampler's model is made; not more than a wave."""
        return min(_STARTUP, self.options.members)

    @abstractmethod
    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """A new sampler, for one wave."""

    def propose(self, count: int) -> list[Start]:
        with quiet():
            sampler = self.sampler(sampler_seed(self.problem, self.started))
        told = [(asked, scores) for asked, (_, scores) in zip(self._asked, self.told, strict=True)]
        starts, asked = proposals(self.problem, told, [sampler] * count)
        self._asked += asked
        informed = len(told) >= self.startup
        return [dataclasses.replace(start, informed=informed) for start in starts]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "asked": self._asked}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self._asked = [dict(asked) for asked in saved["asked"]]


def sampler_seed(problem: Problem, started: int) -> int:
    """The seed of the samplers of one wave.

    Args:
        problem: has the seed of the search.
        started: the number of runs that began before the wave.
    """
    return int(problem.rng(_SAMPLER, started).integers(2**31))


def proposals(
    problem: Problem,
    told: Sequence[tuple[Proposal, tuple[float, ...]]],
    samplers: Sequence[optuna.samplers.BaseSampler],
) -> tuple[list[Start], list[Proposal]]:
    """Let each sampler propose a point, knowing the points before its own.

    Args:
        problem: has the space.
        told: points whose runs are over, with their scores.
        samplers: one for each point.

    Returns:
        The runs to begin, and what Optuna has to know of them later.
    """
    starts, asked = [], []
    with quiet():
        study = optuna.create_study(directions=["maximize"] * problem.objectives)
        for one, scores in told:
            study.add_trial(_finished(one, scores))
        for sampler in samplers:
            study.sampler = sampler
            values, frozen = _accepted(problem, study)
            starts.append(Start(values))
            asked.append(
                {
                    "params": frozen.params,
                    "kinds": {name: distribution_to_json(kind) for name, kind in frozen.distributions.items()},
                    "attributes": json.dumps(frozen.system_attrs),
                }
            )
    return starts, asked


def _accepted(problem: Problem, study: optuna.Study) -> tuple[Values, FrozenTrial]:
    """The first point that is not refused, and what Optuna knows of it; the last one where all are.

    A model knows nothing of refusals, so that after a few of them points are drawn at random.
    """
    values: Values = {}
    for number in range(DRAWS):
        trial = study.ask()
        values = problem.space.suggest(trial)
        if number == DRAWS - 1 or problem.space.refusals is None or not problem.space.refusals.refuse(values):
            break
        study.tell(trial, state=TrialState.FAIL)
        if number == _BY_MODEL:
            seed = int(problem.rng(_SAMPLER, 1, trial.number).integers(2**31))
            study.sampler = optuna.samplers.RandomSampler(seed)
    return values, study.trials[-1]


def _finished(asked: Proposal, scores: tuple[float, ...]) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        values=list(scores),
        params=asked["params"],
        distributions={name: json_to_distribution(kind) for name, kind in asked["kinds"].items()},
        system_attrs=json.loads(asked["attributes"]),
    )


class quiet(warnings.catch_warnings):
    """A block in which Optuna logs nothing but errors, and does not warn of experimental options."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
