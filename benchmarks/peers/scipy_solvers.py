"""Weights of a Gramian by SciPy's general solvers, as several libraries find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize


def min_norm_by_slsqp(gramian: np.ndarray) -> np.ndarray:
    """MGDA's weights from SciPy."""
    return _on_simplex(gramian, lambda w: w @ gramian @ w, lambda w: 2 * gramian @ w)


def cagrad_by_slsqp(gramian: np.ndarray, c: float = 0.5) -> np.ndarray:
    """CAGrad's inner problem from SciPy, as its authors solve it, and the weights of its update."""
    mean = gramian.mean(1)
    radius = c * np.sqrt(gramian.mean())

    def objective(w: np.ndarray) -> float:
        return float(mean @ w + radius * np.sqrt(w @ gramian @ w + 1e-16))

    w = _on_simplex(gramian, objective, None)
    return np.asarray(1 / len(w) + radius / np.sqrt(w @ gramian @ w) * w)


def nash_by_root(gramian: np.ndarray) -> np.ndarray:
    """The bargaining equation from SciPy's least squares, in the logarithms of the weights."""
    lengths = np.sqrt(gramian.diagonal())
    unit = gramian / lengths[:, None] / lengths
    solution = optimize.least_squares(lambda u: np.exp(u) * (unit @ np.exp(u)) - 1, np.zeros(len(gramian)))
    return np.asarray(np.exp(solution.x) / lengths)


def _on_simplex(gramian: np.ndarray, objective: Callable[[np.ndarray], float], slope: Any) -> np.ndarray:
    size = len(gramian)
    solution = optimize.minimize(
        objective,
        np.full(size, 1 / size),
        jac=slope,
        method="SLSQP",
        bounds=[(0, 1)] * size,
        constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
        options={"ftol": 1e-12, "maxiter": 200},
    )
    return np.asarray(solution.x)
