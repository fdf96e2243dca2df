"""Oracles of the strategies that read the Jacobian, further batches or validation gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.oracles.base import HARD, SCALED, SINGULAR, WELL, Array, Signals, optimizer_of, softmax, updates, weights
from tests.oracles.gramian import jacobian, lengths, nearest

_ONE = ("random",)  # the gradients of the batch are not read


def on_simplex(point: Array) -> Array:
    """The Euclidean projection, by bisection of its multiplier."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    result: Array = np.maximum(point - low, 0)
    return result


@weights("graddrop", "coordinate by coordinate in Python", (*WELL, *SINGULAR, *SCALED), steps=1)
def graddrop(strategy: Any, steps: list[Signals]) -> list[Any]:
    result = []
    for signals in steps:
        rows, draw = jacobian(signals), signals["dither"].tolist()
        leaks = list(strategy.leak) * (len(rows) if len(strategy.leak) == 1 else 1)
        own = np.zeros_like(rows)
        for d in range(rows.shape[1]):
            column = rows[:, d].tolist()
            total = sum(map(abs, column))
            purity = 0.5 * (1 + sum(column) / total) if total else 0.5
            threshold = strategy.slope * (purity - 0.5) + 0.5
            for k, g in enumerate(column):
                kept = float((threshold > draw[d] and g > 0) or (threshold < draw[d] and g < 0))
                own[k, d] = leaks[k] + (1 - leaks[k]) * kept
        result.append(own)
    return result


@weights("excess", "the recursion in NumPy", ("random", "aligned", "hundredfold"), steps=8)
def excess(strategy: Any, steps: list[Signals]) -> list[Any]:
    tasks = len(steps[0]["losses"])
    own, squares, first, result = np.full(tasks, 1 / tasks), 0, [], []
    for t, signals in enumerate(steps):
        rows = jacobian(signals)
        squares = squares + rows**2
        risk = (rows / np.sqrt(squares + 1e-7) * rows).sum(1)
        if t < strategy.warmup:
            first.append(risk)
        else:
            own = own * np.exp(strategy.lr * risk / np.mean(first, 0))
            own = own / own.sum()
        result.append(own)
    return result


@updates("moco", "the recursion in NumPy, projections by bisection", ("random", "aligned"), steps=8)
def moco(strategy: Any, steps: list[Signals]) -> list[Any]:
    tasks = len(steps[0]["losses"])
    tracked, own, result = 0, np.full(tasks, 1 / tasks), []
    for t, signals in enumerate(steps, start=1):
        rows = jacobian(signals)
        if strategy.scaling == "loss":
            rows = rows / lengths(rows)[:, None] * signals["losses"].numpy()[:, None]
        tracked = tracked - strategy.beta / t**strategy.beta_sigma * (tracked - rows)
        slope = (tracked @ tracked.T + strategy.rho * np.eye(tasks)) @ own
        moved = own - strategy.gamma / t**strategy.gamma_sigma * slope
        own = on_simplex(moved) if strategy.projection == "simplex" else softmax(moved)
        result.append(own @ tracked)
    return result


@updates("db-mtl-ema", "the recursion in NumPy", HARD, steps=6)
def db_mtl_ema(strategy: Any, steps: list[Signals]) -> list[Any]:
    tracked, result = 0, []
    for t, signals in enumerate(steps, start=1):
        share = strategy.beta / t**strategy.sigma
        tracked = share * tracked + (1 - share) * jacobian(signals) / signals["losses"].numpy()[:, None]
        norms = lengths(tracked)
        result.append(norms.max() * sum(row / n for row, n in zip(tracked, norms, strict=True) if n > 0))
    return result


@weights("modo", "the recursion in NumPy, projections by bisection", _ONE, steps=8)
def modo(strategy: Any, steps: list[Signals]) -> list[Any]:
    tasks = len(steps[0]["losses"])
    own, result = np.full(tasks, 1 / tasks), []
    for signals in steps:
        slope = (signals["cross"].numpy() + strategy.rho * np.eye(tasks)) @ own
        own = on_simplex(own - strategy.gamma * slope)
        result.append(own)
    return result


@weights("sdmgrad", "the official loop in NumPy, projections by bisection", _ONE, steps=4)
def sdmgrad(strategy: Any, steps: list[Signals]) -> list[Any]:
    tasks = len(steps[0]["losses"])
    own, result = np.full(tasks, 1 / tasks), []
    for signals in steps:
        product = signals["cross"].numpy()
        scale = np.sqrt(np.maximum(np.diag(product), 0)).mean()
        product = product / scale**2 if scale > 0 else 0 * product
        velocity = np.zeros(tasks)
        for _ in range(strategy.iterations):
            velocity = strategy.momentum * velocity + product @ (own + strategy.lam / tasks)
            own = on_simplex(own - strategy.lr * velocity)
        result.append(own + strategy.lam / tasks)
    return result


def descended(strategy: Any, free: Tensor, gradients: Any) -> list[Tensor]:
    """The free parameters after each step of PyTorch's optimizer along the gradients, kept above zero."""
    optimizer, result = optimizer_of(strategy, free.requires_grad_()), []
    for gradient in gradients:
        free.grad = gradient
        optimizer.step()
        with torch.no_grad():
            free.clamp_(min=0)
        result.append(free.detach().clone())
    return result


@weights("auto-lambda", "`torch.optim` along the validation gradient's products", _ONE, steps=8)
def auto_lambda(strategy: Any, steps: list[Signals]) -> list[Any]:
    index = [int(k) for k in strategy.primary] or slice(None)
    free = torch.full_like(steps[0]["losses"], strategy.start)
    return descended(strategy, free, (-signals["align"][index].sum(0) for signals in steps))


@weights("auxilearn", "`torch.optim` along the clipped implicit gradient", _ONE, steps=8)
def auxilearn(strategy: Any, steps: list[Signals]) -> list[Any]:
    index = [int(k) for k in strategy.primary]
    free = torch.ones_like(steps[0]["losses"])
    gradients = []
    for signals in steps:
        leaf = torch.zeros_like(free, requires_grad=True)
        leaf.grad = -signals["implicit"][index or slice(None)].sum(0)
        leaf.grad[index] = 0
        torch.nn.utils.clip_grad_norm_([leaf], strategy.max_norm)
        gradients.append(leaf.grad)
    return descended(strategy, free, gradients)


@weights("moml", "hypergradients by autograd, their min-norm point by SciPy, `torch.optim`", _ONE, steps=6)
def moml(strategy: Any, steps: list[Signals]) -> list[Any]:
    logits = torch.zeros_like(steps[0]["losses"], requires_grad=True)
    optimizer, result = optimizer_of(strategy, logits), []
    for signals in steps:
        inner = -signals["align"] @ torch.softmax(logits, 0)
        hyper = torch.stack([torch.autograd.grad(one, logits, retain_graph=True)[0] for one in inner])
        logits.grad = torch.as_tensor(nearest(hyper.numpy())) @ hyper
        optimizer.step()
        result.append(torch.softmax(logits, 0).detach())
    return result
