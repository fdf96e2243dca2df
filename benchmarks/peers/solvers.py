"""How others find weights from a Gramian: TorchJD, and CVXPY, SciPy and quadprog called directly."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .scipy_solvers import cagrad_by_slsqp, min_norm_by_slsqp, nash_by_root

Solve = Callable[[Tensor], Tensor]


def _torchjd(make: Callable[[Any], Any]) -> Callable[[int], Solve]:
    def solver(_: int) -> Solve:
        import torchjd.aggregation

        weighting = make(torchjd.aggregation)
        return lambda gramian: weighting(gramian)

    return solver


def _torchjd_nash(size: int) -> Solve:
    """TorchJD hands its solver a Jacobian; the Cholesky factor is one of that Gramian."""
    from torchjd.aggregation import NashMTL

    weighting = NashMTL(n_tasks=size, max_norm=0.0).weighting

    def solve(gramian: Tensor) -> Tensor:
        weights: Tensor = weighting(torch.linalg.cholesky(gramian))
        return weights

    return solve


def _host(solve: Callable[[np.ndarray], np.ndarray]) -> Callable[[int], Solve]:
    return lambda _: lambda gramian: torch.from_numpy(solve(gramian.numpy()))


def _quadprog_min_norm(gramian: np.ndarray) -> np.ndarray:
    import quadprog

    size = len(gramian)
    simplex = np.hstack([np.ones((size, 1)), np.eye(size)])
    solution = quadprog.solve_qp(gramian, np.zeros(size), simplex, np.r_[1.0, np.zeros(size)], 1)[0]
    return np.asarray(solution)


def _cvxpy_nash(size: int) -> Solve:
    """The convex problem whose stationary point the bargaining solution is, compiled once and solved for each G."""
    cvxpy: Any = importlib.import_module("cvxpy")

    factor = cvxpy.Parameter((size, size))
    alpha = cvxpy.Variable(size)
    objective = cvxpy.Minimize(cvxpy.sum_squares(factor.T @ alpha) / 2 - cvxpy.sum(cvxpy.log(alpha)))
    problem = cvxpy.Problem(objective)

    def solve(gramian: Tensor) -> Tensor:
        factor.value = torch.linalg.cholesky(gramian).numpy()
        problem.solve(solver=cvxpy.CLARABEL)
        return torch.from_numpy(np.asarray(alpha.value))

    return solve


#: Peers by solver. The first of each is what TorchJD runs; `fairgrad` there is SciPy's least squares, `upgrad` and
#: `dualproj` are quadprog, `cagrad` is CVXPY with Clarabel, `nash` the authors' CVXPY with ECOS.
SOLVER_PEERS: Mapping[str, Mapping[str, Callable[[int], Solve]]] = MappingProxyType(
    {
        "nash": {
            "TorchJD: CVXPY with ECOS": _torchjd_nash,
            "CVXPY with Clarabel": _cvxpy_nash,
            "SciPy least squares": _host(nash_by_root),
        },
        "cagrad": {
            "TorchJD: CVXPY with Clarabel": _torchjd(lambda of: of.CAGradWeighting(c=0.5)),
            "SciPy SLSQP": _host(cagrad_by_slsqp),
        },
        "fairgrad": {"TorchJD: SciPy least squares": _torchjd(lambda of: of.FairGradWeighting(alpha=2.0))},
        "mgda": {
            "TorchJD: Frank-Wolfe": _torchjd(lambda of: of.MGDAWeighting()),
            "SciPy SLSQP": _host(min_norm_by_slsqp),
            "quadprog": _host(_quadprog_min_norm),
        },
        "upgrad": {"TorchJD: quadprog": _torchjd(lambda of: of.UPGradWeighting())},
        "dualproj": {"TorchJD: quadprog": _torchjd(lambda of: of.DualProjWeighting())},
    }
)
