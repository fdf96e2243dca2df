from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import optuna

from mtl.search.methods._optuna import Proposal, proposals, quiet, sampler_seed
from mtl.search.methods.hyperband import Hyperband
from mtl.search.methods.method import Decision, Problem, Report, Start
from mtl.search.options import MethodOptions

_RANDOM = 1 / 3  # rho: share of the runs that no model proposes
_CANDIDATES = 64  # N_s: of which the one with the largest ratio of densities is taken
_COIN = 5  # stream of the generator


class BOHB(Hyperband):
    """HyperBand whose runs are proposed by a model of those before (Falkner, Klein & Hutter, ICML 2018).

    The model is a tree-structured Parzen estimator over all parameters together. It is fitted to the scores at one
    number of steps: the largest at which at least d + 3 runs were compared, where d is the number of parameters of a
    run. Two thirds of the runs maximise the ratio of the model's two densities, that of good points over that of bad
    points; one third is drawn at random. A run that broke counts as the worst of its rung.

    Deviations: all runs of a bracket are proposed at once, because they train side by side. The densities are Optuna's.
    They differ in their bandwidths and in the prior that is mixed into both; a tenth of the runs counts as good instead
    of 15 %; and conditional parameters are modelled in groups instead of imputed.
    """

    name: ClassVar[str] = "bohb"
    about: ClassVar[str] = "HyperBand with runs proposed by a Parzen estimator (Falkner et al. 2018)"

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        self._asked: list[Proposal] = []
        #: (steps, run, score) of every comparison.
        self._seen: list[tuple[int, int, float]] = []
        self._size = 0

    def propose(self, count: int) -> list[Start]:
        seed = sampler_seed(self.problem, self._started)
        free = optuna.samplers.RandomSampler(seed)
        told = self._told()
        informed = [False] * count
        if told:
            numbers = range(self._started, self._started + count)
            informed = [self.problem.rng(_COIN, number).random() >= _RANDOM for number in numbers]
        model = _model(seed)
        starts, asked = proposals(self.problem, told, [model if each else free for each in informed])
        self._asked += asked
        varied = self.space.varied
        sizes = [sum(name in varied for name in start.values) for start in starts]
        self._size = max([self._size, *sizes])
        return [replace(start, informed=each) for start, each in zip(starts, informed, strict=True)]

    def _told(self) -> list[tuple[Proposal, tuple[float, ...]]]:
        """The points and scores that a model is fitted to; none where there are too few."""
        heard = Counter(budget for budget, *_ in self._seen)
        enough = [budget for budget, runs in heard.items() if runs >= self._size + 3]
        if not enough:
            return []
        return [(self._asked[run], (score,)) for budget, run, score in self._seen if budget == max(enough)]

    def decide(self, reports: Sequence[Report]) -> Decision:
        for report in reports:
            if report.finished or report.broken or report.step in self.rungs:
                budget = next((rung for rung in self.rungs if rung >= report.step), self.problem.length)
                self._seen.append((budget, report.trial, report.score))
        return super().decide(reports)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "asked": self._asked, "seen": self._seen, "size": self._size}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self._asked = [dict(asked) for asked in saved["asked"]]
        self._seen = [(budget, run, score) for budget, run, score in saved["seen"]]
        self._size = saved["size"]


def _model(seed: int) -> optuna.samplers.TPESampler:
    with quiet():
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=0,
            n_ei_candidates=_CANDIDATES,
            multivariate=True,
            group=True,
            constant_liar=False,
        )
