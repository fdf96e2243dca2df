from __future__ import annotations

from typing import ClassVar

import optuna

from mtl.search.methods._optuna import OptunaMethod


class GP(OptunaMethod):
    """Bayesian optimisation with a Gaussian process and log expected improvement, as Optuna has it."""

    name: ClassVar[str] = "gp"
    about: ClassVar[str] = "Bayesian optimisation with a Gaussian process, by Optuna"
    several: ClassVar[bool] = True

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self.startup, deterministic_objective=False)
