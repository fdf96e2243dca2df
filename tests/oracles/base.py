"""What an oracle is: a strategy's definition computed another way, and how far the strategy is from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from tests.problems import random_signals
from tests.strategies.solvers.gramians import difficult

Signals = dict[str, Tensor]
Array = np.ndarray[Any, np.dtype[np.float64]]

STEPS_PER_EPOCH = 5
#: Gradients for which every method's problem has one solution.
WELL = ("random", "aligned", "conflicting", "hundredfold")
#: Dependent, repeated, opposed and missing gradients.
SINGULAR = ("half_rank", "duplicated", "identical", "opposed", "zero_row", "rank_one")
#: Norms from 1e-8 to 1e8, and one gradient 1e4 times the others.
SCALED = ("badly_scaled", "badly_scaled_aligned", "dominant")
HARD = (*WELL, *SINGULAR, *SCALED)


@dataclass(frozen=True)
class Oracle:
    """How a strategy's definition is computed a second time.

    Attributes:
        how: the second computation, in words.
        deviation: from a strategy, the signals of some steps, its weights and the gradients that they apply to, to the
            largest relative difference; zero for a strategy that is exact.
        cases: the gradients it is defined on, by their names in `difficult`.
        steps: how many steps of a run are compared.
    """

    how: str
    deviation: Callable[[Strategy, list[Signals], list[Tensor], list[Tensor]], float]
    cases: tuple[str, ...]
    steps: int


#: By strategy; filled by the modules of this package.
ORACLES: dict[str, Oracle] = {}


def weights(name: str, how: str, cases: Sequence[str] = WELL, steps: int = 5) -> Any:
    """Register `function(strategy, steps)`, which gives the weights of each step."""

    def register(function: Callable[..., Any]) -> Any:
        def deviation(strategy: Strategy, given: list[Signals], ours: list[Tensor], _rows: list[Tensor]) -> float:
            pairs = zip(ours, function(strategy, given), strict=True)
            return max(_relative(one, torch.as_tensor(np.asarray(other))) for one, other in pairs)

        ORACLES[name] = Oracle(how, deviation, tuple(cases), steps)
        return function

    return register


def updates(name: str, how: str, cases: Sequence[str] = WELL, steps: int = 3) -> Any:
    """Register `function(strategy, steps)`, which gives the update (D,) of each step."""

    def register(function: Callable[..., Any]) -> Any:
        def deviation(strategy: Strategy, given: list[Signals], ours: list[Tensor], rows: list[Tensor]) -> float:
            worst = 0.0
            for own, row, other in zip(ours, rows, function(strategy, given), strict=True):
                terms = own * row if own.ndim == 2 else own[:, None] * row
                expected = torch.as_tensor(np.asarray(other), dtype=torch.float64)
                least = 1e-9 * row.norm(dim=1).max().item()  # an update of nothing is not divided by itself
                size = max(expected.norm().item(), terms.norm(dim=1).max().item(), least)
                worst = max(worst, (terms.sum(0) - expected).norm().item() / size)
            return worst

        ORACLES[name] = Oracle(how, deviation, tuple(cases), steps)
        return function

    return register


def residual(name: str, how: str, cases: Sequence[str] = WELL, steps: int = 2) -> Any:
    """Register `function(strategy, signals, weights)`, by how much a step's weights miss their conditions."""

    def register(function: Callable[..., float]) -> Any:
        def deviation(strategy: Strategy, given: list[Signals], ours: list[Tensor], _rows: list[Tensor]) -> float:
            return max(float(function(strategy, *pair)) for pair in zip(given, ours, strict=True))

        ORACLES[name] = Oracle(how, deviation, tuple(cases), steps)
        return function

    return register


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-300)).item()


def trace(seed: int = 0, steps: int = 40, tasks: int = 4) -> Tensor:
    """Losses (steps, tasks) that fall at different rates with noise, over three orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(steps, dtype=torch.float64)[:, None] / steps
    rates = 3 * torch.rand(tasks, generator=generator, dtype=torch.float64)
    scale = 10 ** (3 * torch.rand(tasks, generator=generator, dtype=torch.float64) - 1.5)
    noise = 0.2 * torch.randn(steps, tasks, generator=generator, dtype=torch.float64)
    return scale * torch.exp(-rates * time + noise)


def run_of(case: str, tasks: int, steps: int, seed: int = 0) -> list[Signals]:
    """The signals of a run: falling losses, and difficult gradients drawn anew at each step."""
    losses, result = trace(seed, steps, tasks), []
    for t in range(steps):
        rows = difficult(tasks, seed + t)[case]
        generator = torch.Generator().manual_seed(1000 * seed + t)
        signals = random_signals(tasks, 100 * seed + t)
        dither = torch.rand(rows.shape[1], generator=generator, dtype=torch.float64)
        after = losses[max(t - 1, 0)] * (0.9 + 0.02 * torch.arange(tasks, dtype=torch.float64))
        signals |= {"losses": losses[t], "after": after, "jacobian": rows, "gramian": rows @ rows.T, "dither": dither}
        result.append(signals | {"epoch": torch.tensor(t // STEPS_PER_EPOCH)})
    return result


def deviation(spec: str | Strategy, case: str, tasks: int, seed: int = 0) -> float:
    """How far a strategy is from its oracle over a run: relative, largest over steps and entries."""
    strategy = make(spec)
    strategy.check_tasks(tasks)
    oracle = ORACLES[strategy.name]
    given = run_of(case, tasks, oracle.steps, seed)
    state, ours, rows = strategy.init_sized(given[0]["losses"], given[0]["jacobian"].shape[1]), [], []
    for signals in given:
        own, state = strategy(state, signals)
        ours.append(own)
        rows.append(strategy.gradients(state, signals["jacobian"]))
    return oracle.deviation(strategy, given, ours, rows)


def softmax(values: Any) -> Array:
    shifted = np.exp(np.asarray(values, dtype=float) - np.max(values))
    result: Array = shifted / shifted.sum()
    return result


def shares(preference: Sequence[float], tasks: int) -> Array:
    """A preference on the simplex, equal when none is given."""
    given = np.asarray(preference, dtype=float) if len(preference) else np.ones(tasks)
    result: Array = given / given.sum()
    return result


def optimizer_of(strategy: Any, parameter: Tensor) -> torch.optim.Optimizer:
    """PyTorch's optimizer of the kind and step size that a strategy with learned weights names."""
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[strategy.optimizer]
    return kind([parameter], lr=strategy.lr)
