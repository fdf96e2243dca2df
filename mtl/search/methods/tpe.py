from __future__ import annotations

from typing import ClassVar

import optuna

from mtl.search.methods._optuna import OptunaMethod


class TPE(OptunaMethod):
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), over all parameters together, as Optuna has it.

    Optuna's constant liar keeps the runs of one wave apart: those without a score yet count as bad. Conditional
    parameters are modelled in groups.
    """

    name: ClassVar[str] = "tpe"
    about: ClassVar[str] = "tree-structured Parzen estimator, by Optuna (Bergstra et al. 2011)"
    several: ClassVar[bool] = True

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self.startup, multivariate=True, group=True, constant_liar=True
        )
