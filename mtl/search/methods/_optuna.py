"""Optuna's samplers as methods. A study is made anew for each wave, from what was told, so that a resumed search needs
no more than plain values to continue as if it had not stopped."""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mtl.search.methods.method import Options, Problem, Start
from mtl.search.methods.waves import Waves

_SAMPLER = 4  # stream of the generator


class OptunaMethod(Waves):
    """Waves proposed by an Optuna sampler."""

    def __init__(self, problem: Problem, options: Options) -> None:
        super().__init__(problem, options)
        self._asked: list[dict[str, Any]] = []

    @abstractmethod
    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """The sampler of one wave."""

    def propose(self, count: int) -> list[Start]:
        seed = int(self.problem.rng(_SAMPLER, self.started).integers(2**31))
        with _quiet():
            study = optuna.create_study(sampler=self.sampler(seed), directions=["maximize"] * self.problem.objectives)
            for asked, (_, scores) in zip(self._asked, self.told, strict=True):
                study.add_trial(_finished(asked, scores))
            starts = []
            for _ in range(count):
                trial = study.ask()
                starts.append(Start(self.space.suggest(trial)))
                frozen = study.trials[trial.number]
                self._asked.append(
                    {
                        "params": frozen.params,
                        "kinds": {name: distribution_to_json(kind) for name, kind in frozen.distributions.items()},
                        "attributes": json.dumps(frozen.system_attrs),
                    }
                )
        return starts

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "asked": self._asked}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self._asked = [dict(asked) for asked in saved["asked"]]


def _finished(asked: Mapping[str, Any], scores: tuple[float, ...]) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        values=list(scores),
        params=asked["params"],
        distributions={name: json_to_distribution(kind) for name, kind in asked["kinds"].items()},
        system_attrs=json.loads(asked["attributes"]),
    )


class _quiet(warnings.catch_warnings):
    """No log lines, and no word about experimental options."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
