from __future__ import annotations

from typing import ClassVar

import optuna

from mtl.search.methods._optuna import OptunaMethod


class NSGA2(OptunaMethod):
    """Nondominated sorting genetic algorithm II (Deb et al., IEEE TEC 2002), by Optuna; a wave is a generation."""

    name: ClassVar[str] = "nsga2"
    about: ClassVar[str] = "genetic algorithm for several objectives, by Optuna (Deb et al. 2002)"
    several: ClassVar[bool] = True

    @property
    def startup(self) -> int:
        return max(2, self.options.members)  # a generation

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=self.startup)
