from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mtl.search.methods.method import Decision, Problem, Report
from mtl.search.methods.pbt import PBT
from mtl.search.options import MethodOptions
from mtl.search.space import Values
from mtl.search.space.parameters import Number

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

_CANDIDATES = 1000
_REMEMBERED = 200  # latest observations that the model is fitted to: its cost grows with their cube
_C1, _C2 = 0.2, 0.4  # of the paper's code: kappa = sqrt(c1 + log(c2 n))
_MODEL = 3  # stream of the generator
_UNKNOWN = 0.5  # where a parameter lies that does not exist beside the choices of a run


class PB2(PBT):
    """PBT that chooses new values by a model, at an upper confidence bound (Parker-Holder et al., NeurIPS 2020).

    A Gaussian process predicts from time and values how the score changes over an interval. Each new point maximises
    mean plus deviation. Points that were chosen before in the same round count as seen, with their predicted mean. This
    holds for numbers; choices and weights on the simplex are perturbed as in PBT.

    Deviations: time is one more coordinate of a squared exponential kernel, where the paper has a factor by which old
    observations are forgotten; and only the 200 latest observations are used.
    """

    name: ClassVar[str] = "pb2"
    waits: ClassVar[bool] = True
    about: ClassVar[str] = "PBT that explores by a Gaussian process bandit (Parker-Holder et al. 2020)"

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        varied = problem.space.varied.items()
        self._numbers = {name: parameter for name, parameter in varied if isinstance(parameter, Number)}
        self._last: dict[int, float] = {}
        self._seen: list[tuple[list[float], float]] = []
        self._model: GaussianProcessRegressor | None = None
        self._points, self._gains = np.empty((0, 0)), np.empty(0)

    def decide(self, reports: Sequence[Report]) -> Decision:
        for report in reports:
            before = self._last.get(report.trial, math.nan)
            if math.isfinite(gain := report.score - before):
                self._seen.append((self._coordinates(report.step, report.values), gain))
        self._seen = self._seen[-_REMEMBERED:]
        self._last = {report.trial: report.score for report in reports}
        scores = dict(self._last)
        decision = super().decide(reports)
        for exploit in decision.exploits:
            self._last[exploit.target] = scores[exploit.source]
        return decision

    def prepare(self, reports: Sequence[Report]) -> None:
        self._model = None
        if len(self._seen) < 2 or not self._numbers:
            return
        # They take a second, which `mtl list methods` spares.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        gains = np.array([gain for _, gain in self._seen])
        self._points = np.array([point for point, _ in self._seen])
        self._gains = (gains - gains.mean()) / (gains.std() or 1.0)
        scales = np.ones(self._points.shape[1])
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(scales, (1e-1, 1e2)) + WhiteKernel(0.1, (1e-3, 1e1))
        model = GaussianProcessRegressor(kernel, random_state=(self.problem.seed + reports[0].step) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is a fine answer
            self._model = model.fit(self._points, self._gains)

    def explore(self, values: Values, target: Report) -> Values:
        moved = super().explore(values, target)
        if self._model is None:
            return moved
        rng = self.problem.rng(_MODEL, target.step, target.trial)
        shares = rng.random((_CANDIDATES, len(self._numbers)))
        time = target.step / self.problem.length
        candidates = np.column_stack([np.full(_CANDIDATES, time), shares])
        mean, deviation = self._model.predict(candidates, return_std=True)
        kappa = math.sqrt(max(0.0, _C1 + math.log(_C2 * len(self._gains))))
        best = int(np.argmax(mean + kappa * deviation))
        self._fill_in(candidates[best], float(mean[best]))
        chosen = {name: number.at(shares[best, k]) for k, (name, number) in enumerate(self._numbers.items())}
        return {name: chosen.get(name, value) for name, value in moved.items()}

    def _fill_in(self, point: np.ndarray, mean: float) -> None:
        assert self._model is not None
        self._points = np.vstack([self._points, point])
        self._gains = np.append(self._gains, mean)
        fitted = type(self._model)(self._model.kernel_, optimizer=None)
        self._model = fitted.fit(self._points, self._gains)

    def _coordinates(self, step: int, values: Values) -> list[float]:
        begun = (step - self.problem.interval) / self.problem.length
        shares = (number.share(values[name]) if name in values else _UNKNOWN for name, number in self._numbers.items())
        return [begun, *shares]

    def state_dict(self) -> dict[str, Any]:
        return {"last": self._last, "seen": self._seen}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self._last = dict(saved["last"])
        self._seen = [(list(point), gain) for point, gain in saved["seen"]]
