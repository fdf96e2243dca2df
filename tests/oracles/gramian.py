"""Oracles of the strategies that read gradient norms or the Gramian; most work on the Jacobian instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor

from tests.oracles.base import (
    HARD,
    SCALED,
    SINGULAR,
    WELL,
    Array,
    Signals,
    optimizer_of,
    residual,
    shares,
    updates,
    weights,
)
from tests.oracles.losses import learned
from tests.peers import library

peers = library("torchjd.aggregation")


def jacobian(signals: Signals) -> Array:
    return signals["jacobian"].numpy()


def lengths(rows: Array) -> Array:
    return np.linalg.norm(rows, axis=1)


# --- gradient norms ---------------------------------------------------------------------------------------------------


@weights("gradnorm", "the paper's objective by autograd and `torch.optim`", (*WELL, *SCALED), steps=8)
def gradnorm(strategy: Any, steps: list[Signals]) -> list[Tensor]:
    first = steps[0]["losses"]
    free, result = torch.ones_like(first, requires_grad=True), []
    optimizer = optimizer_of(strategy, free)
    for signals in steps:
        result.append(free.detach().clone())
        norms = free * signals["jacobian"].norm(dim=1)
        relative = signals["losses"] / first
        target = (norms.mean() * (relative / relative.mean()) ** strategy.alpha).detach()
        optimizer.zero_grad()
        (norms - target).abs().sum().backward()
        optimizer.step()
        with torch.no_grad():
            free.clamp_(min=0).mul_(len(first) / free.sum())
    return result


@updates("db-mtl", "gradients of the log losses scaled one by one", HARD)
def db_mtl(_: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for signals in steps:
        logs = jacobian(signals) / signals["losses"].numpy()[:, None]
        norms = lengths(logs)
        result.append(sum(norms.max() / n * row for n, row in zip(norms, logs, strict=True) if n > 0))
    return result


@weights("ntkmtl", "the equation in NumPy", (*WELL, *SCALED))
def ntkmtl(strategy: Any, steps: list[Signals]) -> list[Any]:
    squares = [lengths(jacobian(signals)) ** 2 for signals in steps]
    return [(square.mean() / square) ** strategy.power for square in squares]


@weights("metabalance", "the recursion in NumPy", (*WELL, *SCALED))
def metabalance(strategy: Any, steps: list[Signals]) -> list[Any]:
    average, result = np.zeros(len(steps[0]["losses"])), []
    for signals in steps:
        average = strategy.beta * average + (1 - strategy.beta) * lengths(jacobian(signals))
        result.append(strategy.relax * average[strategy.primary] / average + 1 - strategy.relax)
    return result


# --- the hull of the gradients ----------------------------------------------------------------------------------------


def off_shortest(rows: Array, part: Array) -> float:
    """How far `part` of the rows (K, D) is from their min-norm point: the largest violation of its conditions.

    d = sum_k part_k g_k is the shortest vector of the hull if and only if g_k . d >= |d|^2 for all k.
    """
    norms, update = lengths(rows), part @ rows
    off_simplex = abs(part.sum() - 1) + max(-part.min(), 0)
    if norms.min() == 0:
        return float(lengths(update[None])[0] / max(norms.max(), 1e-300) + off_simplex)
    return float(((update @ update - rows @ update) / norms).max() / (part @ norms) + off_simplex)


def nearest(rows: Array) -> Array:
    """The min-norm point of the hull of the rows (K, D) by nonnegative least squares.

    The minimiser of |rows^T a|^2 + (sum a - 1)^2 over a >= 0 is a multiple of it.
    """
    scale = lengths(rows).min() or 1.0
    stacked = np.vstack([rows.T / scale, np.ones(len(rows))])
    found, _ = scipy.optimize.nnls(stacked, np.append(np.zeros(rows.shape[1]), 1.0), maxiter=100 * len(rows))
    result: Array = found / found.sum()
    return result


@residual("mgda", "optimality conditions of the min-norm point", HARD)
def mgda(strategy: Any, signals: Signals, ours: Tensor) -> float:
    rows, losses = jacobian(signals), signals["losses"].numpy()
    norms = lengths(rows)
    divisor = {"none": np.ones(len(rows)), "l2": norms, "loss": losses, "loss-l2": losses * norms}[strategy.norm]
    divisor = np.where(divisor > 0, divisor, 1)
    return off_shortest(rows / divisor[:, None], ours.numpy() * divisor)


@residual("edm", "optimality conditions on the unit gradients", (*WELL, "badly_scaled", "dominant"))
def edm(_: Any, signals: Signals, ours: Tensor) -> float:
    rows = jacobian(signals)
    part = ours.numpy() * lengths(rows)
    return off_shortest(rows / lengths(rows)[:, None], part / part.sum()) + abs(ours.sum().item() - 1)


@residual("log-mgda", "optimality conditions of the min-norm point of the log gradients", HARD)
def log_mgda(_: Any, signals: Signals, ours: Tensor) -> float:
    losses = signals["losses"].numpy()
    return off_shortest(jacobian(signals) / losses[:, None], ours.numpy() * losses)


# --- equal projections, projections, conflicts ------------------------------------------------------------------------


@residual("imtl-g", "equal projections on all gradients, sum 1", (*WELL, "duplicated", "opposed", "dominant"))
def imtl_g(_: Any, signals: Signals, ours: Tensor) -> float:
    rows, own = jacobian(signals), ours.numpy()
    projections = rows @ (own @ rows) / lengths(rows)
    return float(np.ptp(projections) / (abs(own) @ lengths(rows)) + abs(own.sum() - 1))


def impartial(rows: Array) -> Array:
    """IMTL-G's weights in the paper's form: g_1 U^T (D U^T)^-1, U and D the differences to the first row."""
    unit = rows / lengths(rows)[:, None]
    apart, difference = unit[0] - unit[1:], rows[0] - rows[1:]
    rest = np.linalg.solve((difference @ apart.T).T, apart @ rows[0])
    return np.append(1 - rest.sum(), rest)


@updates("imtl", "`torch.optim` on the log scales, the paper's closed form in the gradients", ("random", "aligned"))
def imtl(strategy: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for scale, signals in zip(learned("imtl-l", strategy, steps), steps, strict=True):
        scaled = scale.numpy()[:, None] * jacobian(signals)
        result.append(impartial(scaled) @ scaled)
    return result


@updates("pcgrad", "projections of the gradients themselves, one by one", HARD)
def pcgrad(_: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for signals in steps:
        rows, total = jacobian(signals), 0
        for i, order in enumerate(signals["noise"].argsort(-1).tolist()):
            own = rows[i].copy()
            for j in order:
                if j != i and own @ rows[j] < 0:
                    own -= (own @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
            total = total + own
        result.append(total)
    return result


@updates("gradvac", "the paper's loop over the gradients", (*WELL, "half_rank", "rank_one", "dominant"), steps=4)
def gradvac(strategy: Any, steps: list[Signals]) -> list[Any]:
    tasks = len(steps[0]["losses"])
    aims, result = np.zeros((tasks, tasks)), []
    for signals in steps:
        rows, total = jacobian(signals), 0
        for i, order in enumerate(signals["noise"].argsort(-1).tolist()):
            own = rows[i].copy()
            for j in (j for j in order if j != i):
                size, other, aim = np.linalg.norm(own), np.linalg.norm(rows[j]), aims[i, j]
                cosine = np.clip(own @ rows[j] / size / other, -1, 1) if size > 0 else 0.0
                if cosine < aim:
                    gain = aim * np.sqrt(1 - cosine**2) - cosine * np.sqrt(1 - aim**2)
                    own = own + size * gain / (other * np.sqrt(1 - aim**2)) * rows[j]
                aims[i, j] = (1 - strategy.beta) * aim + strategy.beta * cosine
            total = total + own
        result.append(total)
    return result


def cone_weights(gramian: Array, lower: Array, reg_eps: float) -> Array:
    """argmin v^T (G / trace + eps I) v over v >= lower, by nonnegative least squares on a Cholesky factor."""
    raised = gramian / np.trace(gramian) + reg_eps * np.eye(len(gramian))
    factor = np.linalg.cholesky(raised).T
    return lower + scipy.optimize.nnls(factor, -factor @ lower, maxiter=100 * len(gramian))[0]


@weights("upgrad", "each projection by SciPy's nonnegative least squares", HARD, steps=1)
def upgrad(strategy: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for signals in steps:
        gramian = signals["gramian"].numpy()
        each = np.diag(shares(strategy.preference, len(gramian)))
        result.append(sum(cone_weights(gramian, lower, strategy.reg_eps) for lower in each))
    return result


@weights("dualproj", "the projection by SciPy's nonnegative least squares", HARD)
def dualproj(strategy: Any, steps: list[Signals]) -> list[Any]:
    given = [signals["gramian"].numpy() for signals in steps]
    return [cone_weights(g, shares(strategy.preference, len(g)), strategy.reg_eps) for g in given]


@updates("config", "pseudo-inverse of the unit gradients by SVD", HARD)
def config(strategy: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for signals in steps:
        rows = jacobian(signals)
        unit = rows / np.where(lengths(rows) > 0, lengths(rows), 1)[:, None]
        wanted = np.asarray(strategy.preference) if strategy.preference else np.ones(len(rows))
        direction = np.linalg.pinv(unit, rcond=1e-6) @ wanted
        size = np.linalg.norm(direction)
        direction = direction / size if size > 1e-9 else 0 * direction
        result.append((rows @ direction).sum() * direction)
    return result


@updates("aligned", "singular value decomposition of the Jacobian", (*WELL, *SINGULAR, "dominant"))
def aligned(strategy: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for signals in steps:
        left, values, right = np.linalg.svd(jacobian(signals), full_matrices=False)
        kept = values > 1e-6 * values[0]
        squares = np.sort(values[kept] ** 2)
        target = {"min": squares[0], "median": squares[(len(squares) - 1) // 2], "rmse": squares.mean()}[strategy.scale]
        preference = np.asarray(strategy.preference) if strategy.preference else np.ones(len(left))
        result.append(np.sqrt(target) * preference @ left[:, kept] @ right[kept])
    return result


# --- bargaining, fairness, conflict aversion --------------------------------------------------------------------------

#: Where some positive combination of the gradients is not zero, without which the equations have no solution.
SOLVABLE = (*WELL, "rank_one", "duplicated", "identical", "badly_scaled", "badly_scaled_aligned", "dominant")


@residual("nash", "a_k (G a)_k = 1 for every task", SOLVABLE)
def nash(strategy: Any, signals: Signals, ours: Tensor) -> float:
    rows, own = jacobian(signals), ours.numpy()
    size = np.linalg.norm(own @ rows)
    if 0 < strategy.max_norm < len(rows) ** 0.5:
        free = strategy.replace(max_norm=0.0)
        return abs(size - strategy.max_norm) + nash(free, signals, ours * len(rows) ** 0.5 / size)
    return float(abs(own * (rows @ (own @ rows)) - 1).max())


@residual("fairgrad", "w_k^(1/alpha) (G w)_k = 1 for every task", SOLVABLE)
def fairgrad(strategy: Any, signals: Signals, ours: Tensor) -> float:
    rows, own = jacobian(signals), ours.numpy()
    return float(abs(rows @ (own @ rows) * own ** (1 / strategy.alpha) - 1).max())


#: Where the hull of the gradients holds zero the paper divides by the length of nothing, and its update is no optimum.
APART = [case for case in HARD if case not in ("opposed", "zero_row")]


@residual("cagrad", "duality gap between the worst task's descent and its upper bound", APART)
def cagrad(strategy: Any, signals: Signals, ours: Tensor) -> float:
    rows = jacobian(signals)
    tasks, mean = len(rows), rows.mean(0)
    own = ours.numpy() * (1, 1 + strategy.c**2, 1 + strategy.c)[strategy.rescale]
    radius = strategy.c * np.linalg.norm(mean)
    worst = np.maximum(own - 1 / tasks, 0)
    total = worst.sum() or 1.0
    worst = worst / total @ rows
    update = own @ rows
    bound = worst @ mean + radius * np.linalg.norm(worst)
    outside = max(np.linalg.norm(update - mean) - radius, 0) / max(radius, 1e-300)
    return float(abs(bound - (rows @ update).min()) / (lengths(rows).max() * np.linalg.norm(mean)) + outside)


# --- auxiliary tasks and robust means ---------------------------------------------------------------------------------


@weights("gcs", "cosines of the gradients", (*WELL, *SCALED))
def gcs(strategy: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for signals in steps:
        rows = jacobian(signals)
        unit = rows / lengths(rows)[:, None]
        cosine = unit @ unit[strategy.primary]
        own = (cosine >= 0).astype(float) if strategy.gate == "hard" else cosine.clip(0)
        own[strategy.primary] = 1
        result.append(own)
    return result


@weights("ol-aux", "`torch.optim` on the summed products", ("random", "aligned"), steps=12)
def ol_aux(strategy: Any, steps: list[Signals]) -> list[Any]:
    free = torch.full_like(steps[0]["losses"], strategy.start)
    free[strategy.primary] = 1
    free.requires_grad_()
    optimizer, products, result = optimizer_of(strategy, free), 0, []
    for t, signals in enumerate(steps, start=1):
        result.append(free.detach().clone())
        products = products + signals["jacobian"] @ signals["jacobian"][strategy.primary]
        if t % strategy.n == 0:
            free.grad, products = -products, 0
            optimizer.step()
            with torch.no_grad():
                free.clamp_(min=0)
                free[strategy.primary] = 1
    return result


@updates("pcd", "TorchJD's PCD", ("random", "aligned"), steps=4)
def pcd(strategy: Any, steps: list[Signals]) -> list[Any]:
    peer = peers.PCD(tau=strategy.tau, beta=strategy.beta, eps=strategy.eps)
    return [peer(signals["jacobian"]) for signals in steps]


@residual("krum", "sorted squared distances, where equal scores may stand for each other", WELL)
def krum(strategy: Any, signals: Signals, ours: Tensor) -> float:
    rows = signals["jacobian"]
    near = max(len(rows) - strategy.outliers - 2, 1)
    score = np.array([sum(sorted(row.tolist())[1 : near + 1]) for row in torch.cdist(rows, rows).square()])
    best = np.sort(score)[: strategy.selected].mean()
    even = abs(ours[ours > 0] - 1 / strategy.selected).max().item()
    return float(abs(ours.numpy() @ score - best) / best + even)


@updates("trimmed-mean", "each coordinate sorted", HARD)
def trimmed_mean(strategy: Any, steps: list[Signals]) -> list[Any]:
    cut = int(strategy.fraction * len(steps[0]["losses"]))
    given = [np.sort(jacobian(signals), axis=0) for signals in steps]
    return [ordered[cut : len(ordered) - cut].mean(0) for ordered in given]
