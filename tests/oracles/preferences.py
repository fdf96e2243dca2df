"""Oracles of the strategies that take a preference, by linear, quadratic and cone programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from torch import Tensor

from tests.oracles.base import WELL, Array, Signals, residual, shares, updates
from tests.oracles.gramian import jacobian, lengths, nearest, off_shortest
from tests.peers import library


@updates("pareto-mtl", "the paper's two phases with SciPy's nonnegative least squares", (*WELL, "duplicated"))
def pareto_mtl(strategy: Any, steps: list[Signals]) -> list[Any]:
    inside, result = False, []
    for signals in steps:
        rows, losses = jacobian(signals), signals["losses"].numpy()
        tasks = len(rows)
        others = np.reshape(strategy.others, (-1, tasks)) if strategy.others else np.eye(tasks)
        mine = shares(strategy.preference, tasks)
        ahead = others / lengths(others)[:, None] - mine / np.linalg.norm(mine)
        active = ahead[ahead @ losses >= 0]
        searching = not inside and len(active) > 0
        mixed = active if searching else np.vstack([np.eye(tasks), active])
        inside = inside or not searching
        result.append(nearest(mixed @ rows) @ mixed @ rows)
    return result


def linear_program(objective: Array, matrix: Array, lower: Array, free: int = 0) -> float:
    """The maximum of `objective x` over x >= 0 with its first entries on the simplex and `matrix x >= lower`."""
    inside = np.ones(len(objective))
    inside[len(inside) - free :] = 0
    best = scipy.optimize.linprog(-objective, -matrix, -lower, inside[None], [1.0], bounds=(0, None))
    assert best.success, best.message
    return float(-best.fun)


@residual("epo", "optimum and constraints of the linear programs by SciPy", ("random", "aligned", "hundredfold"))
def epo(strategy: Any, signals: Signals, ours: Tensor) -> float:
    rows, losses = jacobian(signals), signals["losses"].numpy()
    tasks, own = len(rows), ours.numpy()
    importance = tasks * shares(strategy.preference, tasks)
    gramian = rows @ rows.T / (rows**2).sum()
    share = importance * losses / (importance * losses).sum()
    uneven = (share * np.log(tasks * share)).sum()
    pull = gramian @ (importance * (np.log(tasks * share) - uneven))
    if uneven > strategy.tolerance:
        scale = abs(pull).max()
        lower = np.where(pull > 0, -np.inf, pull) if (pull > 0).any() else np.zeros(tasks)
        lower[share == share.max()] = 0
        keep = np.isfinite(lower)
        objective, matrix, lower = pull / scale, gramian[keep], lower[keep]
    else:
        objective = gramian.sum(0)
        matrix, lower = np.vstack([gramian, pull]), np.append(np.zeros(tasks), min(pull.max(), 0.0))
    short = max((lower - matrix @ own).max(), 0)
    return float(abs(objective @ own - linear_program(objective, matrix, lower)) + short + abs(own.sum() - 1))


@residual("pmgda", "optimum and constraints of the linear program by SciPy", ("random", "aligned"))
def pmgda(strategy: Any, signals: Signals, ours: Tensor) -> float:
    rows, losses = jacobian(signals), signals["losses"].numpy()
    ray = shares(strategy.preference, len(rows))
    ray = ray / np.linalg.norm(ray)
    aside = losses - losses @ ray * ray
    if np.linalg.norm(aside) < strategy.tolerance:
        return off_shortest(rows, ours.numpy())
    rows = np.vstack([rows, aside / np.linalg.norm(aside) @ rows]) / lengths(rows).max()
    norms = lengths(rows)
    matrix = np.hstack([rows @ rows.T / norms, -np.append(np.ones(len(ray)), 0)[:, None]])
    lower = np.append(-np.ones(len(ray)), strategy.sigma * norms[-1])
    best = linear_program(np.append(np.zeros(len(ray) + 1), 1.0), matrix, lower, free=1) - 1
    update = ours.numpy() @ jacobian(signals)
    short = max(strategy.sigma * norms[-1] - rows[-1] @ update, 0)
    return float(abs((rows[:-1] @ update).min() - best) + short)


@residual("wc-mgda", "optimum of the cone program by CVXPY", ("random", "aligned"), steps=1)
def wc_mgda(strategy: Any, signals: Signals, ours: Tensor) -> float:
    cp = library("cvxpy")

    importance = shares(strategy.preference, len(ours))
    rows = importance[:, None] * jacobian(signals)
    rows = rows / np.linalg.norm(rows, 2)
    gain = importance * (signals["losses"].numpy() - np.asarray(strategy.ideal))
    share = cp.Variable(len(ours))
    cost = share @ gain - strategy.u * cp.norm(rows.T @ share)
    best = cp.Problem(cp.Maximize(cost), [share >= 0, cp.sum(share) == 1]).solve(solver=cp.CLARABEL)
    own = ours.numpy() / importance
    reached = own @ gain - strategy.u * np.linalg.norm(own @ rows)
    return float(abs(best - reached) / abs(gain).max() + abs(own.sum() - 1) + max(-own.min(), 0))


@updates("ferero", "the quadratic program by CVXPY", ("random", "aligned"), steps=1)
def ferero(strategy: Any, steps: list[Signals]) -> list[Any]:
    cp = library("cvxpy")

    result = []
    for signals in steps:
        rows, losses = jacobian(signals), signals["losses"].numpy()
        basis = scipy.linalg.null_space(shares(strategy.preference, len(rows))[None]).T
        mixture, multiplier = cp.Variable(len(rows)), cp.Variable(len(rows) - 1)
        own = mixture + basis.T @ multiplier
        cost = cp.sum_squares(rows.T @ own) / 2 - strategy.rate * multiplier @ (basis @ losses)
        options = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
        problem = cp.Problem(cp.Minimize(cost), [mixture >= 0, cp.sum(mixture) == 1])
        problem.solve(solver=cp.CLARABEL, **options)
        result.append(own.value @ rows)
    return result
