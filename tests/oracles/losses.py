"""Oracles of the strategies that read losses alone."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

from tests.oracles.base import STEPS_PER_EPOCH, Signals, optimizer_of, shares, softmax, weights

_ONE = ("random",)  # the gradients are not read
on_losses = partial(weights, cases=_ONE, steps=40)


def columns(steps: list[Signals]) -> list[list[float]]:
    """The losses of each task over the run."""
    return torch.stack([signals["losses"] for signals in steps]).T.tolist()


def rows(steps: list[Signals]) -> list[list[float]]:
    return [signals["losses"].tolist() for signals in steps]


def epochs(steps: list[Signals]) -> list[list[list[float]]]:
    given = rows(steps)
    return [given[start : start + STEPS_PER_EPOCH] for start in range(0, len(given), STEPS_PER_EPOCH)]


def average(values: list[float], decay: float) -> float:
    """Exponential average that starts at the first value, as one weighted sum."""
    last = len(values) - 1
    parts = [decay**last] + [(1 - decay) * decay ** (last - i) for i in range(1, last + 1)]
    return math.fsum(part * value for part, value in zip(parts, values, strict=True))


# --- gradients of a scalar objective, by autograd ---------------------------------------------------------------------


def gradient(objective: Callable[[Tensor], Tensor], losses: Tensor) -> Tensor:
    leaf = losses.clone().requires_grad_()
    return torch.autograd.grad(objective(leaf), leaf)[0]


def preferred(strategy: Any, losses: Tensor) -> Tensor:
    return torch.as_tensor(shares(strategy.preference, len(losses)))


def ideal(strategy: Any) -> Tensor:
    return torch.tensor(strategy.ideal, dtype=torch.float64)


def pbi(strategy: Any, losses: Tensor) -> Tensor:
    ray, offset = preferred(strategy, losses), losses - ideal(strategy)
    along = torch.dot(offset, ray) / ray.norm()
    return along + strategy.theta * (offset - along * ray / ray.norm()).norm()


def cosmos(strategy: Any, losses: Tensor) -> Tensor:
    share = preferred(strategy, losses)
    return torch.dot(share, losses) - strategy.penalty * torch.nn.functional.cosine_similarity(losses, share, dim=0)


def term(strategy: Any, losses: Tensor) -> Tensor:
    if strategy.tilt == 0:
        return losses.mean()
    return (torch.logsumexp(strategy.tilt * losses, 0) - math.log(len(losses))) / strategy.tilt


OBJECTIVES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "equal": lambda _, losses: losses.sum(),
    "static": lambda s, losses: torch.dot(torch.as_tensor(shares(s.weights, len(losses))), losses),
    "log": lambda _, losses: losses.log().sum(),
    "geometric": lambda _, losses: losses.log().mean().exp(),
    "term": term,
    "tchebycheff": lambda s, losses: torch.max(preferred(s, losses) * (losses - ideal(s))),
    "pbi": pbi,
    "cosmos": cosmos,
}
for _name, _objective in OBJECTIVES.items():

    @on_losses(_name, "gradient of the objective by autograd")
    def _gradients(strategy: Any, steps: list[Signals], objective: Any = _objective) -> list[Tensor]:
        return [gradient(partial(objective, strategy), signals["losses"]) for signals in steps]


def base_losses(steps: list[Signals], epoch: int) -> Tensor:
    """Mean losses of one epoch."""
    inside = steps[epoch * STEPS_PER_EPOCH : (epoch + 1) * STEPS_PER_EPOCH]
    return torch.stack([signals["losses"] for signals in inside]).mean(0)


@on_losses("stch", "gradient of the smooth maximum by autograd")
def stch(strategy: Any, steps: list[Signals]) -> list[Tensor]:
    tasks = len(steps[0]["losses"])
    if strategy.form == "plain":
        preference = preferred(strategy, steps[0]["losses"])
        ideal = torch.tensor(strategy.ideal, dtype=torch.float64)

        def definition(now: Tensor) -> Tensor:
            return strategy.mu * torch.logsumexp(preference * (now - ideal) / strategy.mu, 0)

        return [gradient(definition, signals["losses"]) for signals in steps]
    nadir = base_losses(steps, strategy.warmup)
    importance = tasks * preferred(strategy, steps[0]["losses"])

    def smooth_maximum(now: Tensor) -> Tensor:
        return tasks * strategy.mu * torch.logsumexp(importance * torch.log(now / nadir) / strategy.mu, 0)

    start = (strategy.warmup + 1) * STEPS_PER_EPOCH
    early = [gradient(lambda now: now.log().sum(), signals["losses"]) for signals in steps[:start]]
    return early + [gradient(smooth_maximum, signals["losses"]) for signals in steps[start:]]


@on_losses("igb", "gradient of the weighted log losses by autograd")
def igb(strategy: Any, steps: list[Signals]) -> list[Tensor]:
    base, result = base_losses(steps, strategy.base_epoch), []
    for t, signals in enumerate(steps):
        now = signals["losses"]
        ready = t >= (strategy.base_epoch + 1) * STEPS_PER_EPOCH
        gap = len(now) * torch.as_tensor(softmax((now / base).numpy())) if ready else torch.ones_like(now)
        result.append(gradient(lambda x, gap=gap: (gap * x.log()).sum(), now))
    return result


# --- learned parameters: PyTorch's optimizer on the objective ---------------------------------------------------------


def ldc_objective(strategy: Any, losses: Tensor, logits: Tensor, first: Tensor) -> Tensor:
    log = strategy.normalization == "log"
    value = torch.log(losses / first) if log else losses / (first / first.min())
    scaled = torch.softmax(logits, 0) * value
    gaps = scaled.diff().abs()
    real = gaps > 1e-12 * scaled[1:].abs()  # at the first step all scaled losses are the same
    return scaled.sum() + strategy.penalty * gaps[real].sum()


#: The objective of losses, learned parameters and first losses, and where the parameters start.
LEARNED: dict[str, tuple[Callable[[Any], float], Callable[[Any, Tensor, Tensor, Tensor], Tensor]]] = {
    "uncertainty": (lambda s: s.start, lambda _, L, s, __: (L / (2 * s.exp()) + s / 2).sum()),
    "revised-uncertainty": (lambda s: s.start, lambda _, L, c, __: (L / (2 * c**2) + torch.log(1 + c**2)).sum()),
    "imtl-l": (lambda s: s.start, lambda _, L, s, __: (s.exp() * L - s).sum()),
    "ldc-mtl": (lambda _: 0.0, ldc_objective),
}


def learned(name: str, strategy: Any, steps: list[Signals]) -> list[Tensor]:
    """Weights from one optimizer over the parameters of the objective."""
    start, objective = LEARNED[name]
    first = steps[0]["losses"]
    free = torch.full_like(first, start(strategy), requires_grad=True)
    optimizer, result = optimizer_of(strategy, free), []
    for signals in steps:
        losses = signals["losses"].clone().requires_grad_()
        optimizer.zero_grad()
        objective(strategy, losses, free, first).backward()
        assert losses.grad is not None
        result.append(losses.grad.detach())
        optimizer.step()
    return result


for _name in LEARNED:
    on_losses(_name, "`torch.optim` on the objective, by autograd")(partial(learned, _name))


@on_losses("famo", "`torch.optim.Adam` on the logits through the softmax, by autograd")
def famo(strategy: Any, steps: list[Signals]) -> list[Tensor]:
    logits = torch.zeros_like(steps[0]["losses"], requires_grad=True)
    optimizer = torch.optim.Adam([logits], strategy.lr, weight_decay=strategy.gamma)
    floor, result, before = torch.tensor(strategy.floor, dtype=torch.float64), [], None
    for signals in steps:
        if before is not None:
            change = (before - floor + 1e-8).log() - (signals["after"] - floor + 1e-8).log()
            optimizer.zero_grad()
            torch.softmax(logits, 0).backward(change)
            optimizer.step()
        before = signals["losses"]
        pull = torch.softmax(logits, 0).detach() / (before - floor + 1e-8)
        result.append(pull / pull.sum())
    return result


# --- statistics of the losses, in Python's floats ---------------------------------------------------------------------


@on_losses("uw-so", "softmax in NumPy")
def uw_so(strategy: Any, steps: list[Signals]) -> list[Any]:
    return [softmax([1 / value / strategy.temperature for value in now]) for now in rows(steps)]


@on_losses("rlw", "softmax in NumPy; for Dirichlet, the exponential quantile of SciPy's normal distribution")
def rlw(strategy: Any, steps: list[Signals]) -> list[Any]:
    draws = [signals["noise"].diagonal().numpy() for signals in steps]
    if strategy.distribution == "normal":
        return [softmax(draw) for draw in draws]
    exponential = [scipy.stats.expon.isf(scipy.stats.norm.cdf(draw)) for draw in draws]
    return [values / values.sum() for values in exponential]


@on_losses("dwa", "means of whole epochs in Python")
def dwa(strategy: Any, steps: list[Signals]) -> list[Any]:
    means = [[statistics.fmean(column) for column in zip(*epoch, strict=True)] for epoch in epochs(steps)]
    tasks, result = len(means[0]), []
    for t in range(len(steps)):
        epoch = t // STEPS_PER_EPOCH
        if epoch < 2:
            result.append(np.ones(tasks))
        else:
            ratios = [now / before for now, before in zip(means[epoch - 1], means[epoch - 2], strict=True)]
            result.append(tasks * softmax([ratio / strategy.temperature for ratio in ratios]))
    return result


@on_losses("lbtw", "the equation in Python")
def lbtw(strategy: Any, steps: list[Signals]) -> list[Any]:
    pairs = ((now, epoch[0]) for epoch in epochs(steps) for now in epoch)
    return [[(v / f) ** strategy.alpha for v, f in zip(now, begin, strict=True)] for now, begin in pairs]


@on_losses("adaloss", "the average as one weighted sum in Python")
def adaloss(strategy: Any, steps: list[Signals]) -> list[Any]:
    return [[1 / average(c[: t + 1], strategy.decay) for c in columns(steps)] for t in range(len(steps))]


@on_losses("dtp", "the average as one weighted sum in Python")
def dtp(strategy: Any, steps: list[Signals]) -> list[Any]:
    scores = [[math.exp(-loss) for loss in column] for column in columns(steps)]
    result = []
    for t in range(len(steps)):
        kappas = [average(column[: t + 1], 1 - strategy.alpha) for column in scores]
        result.append([(1 - kappa) ** strategy.gamma * math.log(1 / kappa) for kappa in kappas])
    return result


@on_losses("mldt", "the average as one weighted sum in Python")
def mldt(strategy: Any, steps: list[Signals]) -> list[Any]:
    means = [[average(c[: t + 1], 1 - strategy.alpha) for c in columns(steps)] for t in range(len(steps))]
    result = [[1.0] * len(means[0])]
    for before, now in itertools.pairwise(means):
        progress = [min(a, b) / b for a, b in zip(now, before, strict=True)]
        focal = [0.0 if p == 1 else -((1 - p) ** strategy.gamma) * math.log(p) for p in progress]
        result.append(focal if any(focal) else result[0])
    return result


@on_losses("softadapt", "the equation in Python")
def softadapt(strategy: Any, steps: list[Signals]) -> list[Any]:
    given = rows(steps)
    result = [[1 / len(given[0])] * len(given[0])]
    for before, now in itertools.pairwise(given):
        slopes = [a - b for a, b in zip(now, before, strict=True)]
        if strategy.variant == "normalized":
            slopes = [s / sum(map(abs, slopes)) for s in slopes]
        loss_weighted = strategy.variant == "loss-weighted"
        size = [(a + b) / 2 if loss_weighted else 1 for a, b in zip(now, before, strict=True)]
        terms = [f * math.exp(strategy.beta * s) for f, s in zip(size, slopes, strict=True)]
        result.append([part / sum(terms) for part in terms])
    return result


@on_losses("cov", "means and variances of the whole history in Python")
def cov(_: Any, steps: list[Signals]) -> list[Any]:
    given = columns(steps)
    ratios = [[1.0] + [c[t] / statistics.fmean(c[:t]) for t in range(1, len(c))] for c in given]
    result = [[1 / len(given)] * len(given)] * 2
    for t in range(2, len(steps)):
        past = [ratio[:t] for ratio in ratios]
        variation = [math.sqrt(statistics.pvariance(p) + 1e-8) / statistics.fmean(p) for p in past]
        result.append([v / sum(variation) for v in variation])
    return result


@on_losses("relobralo", "the recursion in NumPy")
def relobralo(strategy: Any, steps: list[Signals]) -> list[Any]:
    history = rows(steps)
    tasks = len(history[0])

    def balance(t: int, reference: int) -> Any:
        pairs = zip(history[t], history[reference], strict=True)
        return tasks * softmax([now / (strategy.temperature * then) for now, then in pairs])

    result = [np.ones(tasks), balance(1, 0)]
    for t in range(2, len(steps)):
        kept = float(steps[t]["noise"][0, 0].item() < scipy.stats.norm.ppf(strategy.rho))
        lookback = kept * result[-1] + (1 - kept) * balance(t, 0)
        result.append(strategy.alpha * lookback + (1 - strategy.alpha) * balance(t, t - 1))
    return result


@on_losses("slaw", "weighted moments of the whole history in NumPy")
def slaw(strategy: Any, steps: list[Signals]) -> list[Any]:
    losses = np.array(rows(steps))
    plain, result = round(1 / (1 - strategy.beta)), [np.ones(losses.shape[1])]
    for t in range(1, len(steps)):
        early = min(t + 1, plain)
        parts = np.full(early, 1 / early)
        for _ in range(t + 1 - early):
            parts = np.append(parts * strategy.beta, 1 - strategy.beta)
        deviations = np.sqrt(parts @ (losses[: t + 1] - parts @ losses[: t + 1]) ** 2)
        result.append(losses.shape[1] / deviations / (1 / deviations).sum())
    return result


# --- adversaries and groups -------------------------------------------------------------------------------------------


@on_losses("group-dro", "softmax of all losses so far")
def group_dro(strategy: Any, steps: list[Signals]) -> list[Any]:
    losses = np.array(rows(steps))
    return [softmax(strategy.lr * losses[: t + 1].sum(0)) for t in range(len(steps))]


@on_losses("banditmtl", "the ball's multiplier by SciPy's root finder")
def banditmtl(strategy: Any, steps: list[Signals]) -> list[Any]:
    tasks = len(steps[0]["losses"])
    result = [np.full(tasks, 1 / tasks)]

    def excess(power: float, logits: Any) -> float:
        tried = softmax(power * logits)
        return float(scipy.stats.entropy(tried, np.full(tasks, 1 / tasks)) - strategy.rho)

    for signals in steps[:-1]:
        logits = np.log(result[-1]) + strategy.lr * signals["losses"].numpy()
        outside = excess(1, logits) > 0
        power = scipy.optimize.brentq(excess, 0, 1, (logits,), xtol=1e-15) if outside else 1.0
        result.append(softmax(power * logits))
    return result


@on_losses("go4align", "every split of the sorted indicators into groups")
def go4align(strategy: Any, steps: list[Signals]) -> list[Any]:
    tasks = len(steps[0]["losses"])
    probability, result = np.full(tasks, 1 / tasks), []
    splits = [(0, *cuts, tasks) for cuts in itertools.combinations(range(1, tasks), min(strategy.groups, tasks) - 1)]
    for now in np.array(rows(steps)):
        probability = probability * np.exp(-strategy.lr * now)
        probability /= probability.sum()
        indicator = now.sum() / now * probability
        order = indicator.argsort()

        def means(split: tuple[int, ...], values: Any = indicator[order]) -> Any:
            return np.concatenate([np.full(b - a, values[a:b].mean()) for a, b in itertools.pairwise(split)])

        best = min((means(split) for split in splits), key=lambda m, v=indicator[order]: ((v - m) ** 2).sum())
        spread = np.empty(tasks)
        spread[order] = best
        result.append(spread)
    return result
