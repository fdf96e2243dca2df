"""The two-objective toy of CAGrad, Nash-MTL and FAMO: which strategies reach the Pareto front, and where on it.

    python experiments/two_objective_toy/run.py

All strategies, starts and both settings of the literature advance as one population, compiled into one step.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import jacrev, vmap

import mtl
from mtl.report.figures.style import BLUE, FAINT, GREY, INK, figure, styled
from mtl.strategies.learned import Moments, descend, moments

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments._common import Claim, arguments, publish

STRATEGIES = {
    "equal": "equal",
    "mgda": "mgda",
    "pcgrad": "pcgrad",
    "cagrad": "cagrad:c=0.5",
    "nash": "nash",
    "famo": "famo:gamma=0,lr=0.025",
    "imtl-g": "imtl-g",
    "upgrad": "upgrad",
    "aligned": "aligned",
    "config": "config",
}
CAGRAD_STARTS = ((-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0))
NASH_STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
CAGRAD_STEPS, NASH_STEPS = 100_000, 50_000
RECORDED = 250  # steps from one recorded point to the next
FRONT = -8.3552  # theta_2 of the minimiser of the average; the front bends down by less than 0.1 from it


Paths = dict[str, Tensor]


class Toy(NamedTuple):
    """One member's problem: the factor on its first loss (), the sign of f2's tanh (), the lowest losses (2,)."""

    scale: Tensor
    sign: Tensor
    lowest: Tensor

    def losses(self, theta: Tensor) -> Tensor:
        """(2,) losses at theta (2,)."""
        x, y = theta
        # max(0, .) with the gradients of both sides where they meet, or (0, 0) would never be left.
        rise = torch.tanh(y / 2)
        above, below = torch.where(y >= 0, rise, 0), torch.where(y <= 0, -rise, 0)
        f1 = ((-x - 7) / 2 - torch.tanh(-y)).abs().clamp(min=5e-6).log() + 6
        f2 = ((-x + 3) / 2 + self.sign * torch.tanh(-y) + 2).abs().clamp(min=5e-6).log() + 6
        g1 = ((-x + 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20
        g2 = ((-x - 7) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20
        return torch.stack([self.scale * (above * f1 + below * g1), above * f2 + below * g2])


class Member(NamedTuple):
    """A point on its way, with the memory of its optimizer and of its strategy."""

    theta: Tensor
    adam: Moments
    state: Any


def stepper(strategy: mtl.Strategy) -> Callable[[Member, Toy], Member]:
    """One step of one member: measure, weigh, apply."""
    floored = "floor" in strategy.hyperparameters

    def step(member: Member, toy: Toy) -> Member:
        losses, jacobian = toy.losses(member.theta), jacrev(toy.losses)(member.theta)
        signals = {
            "losses": losses,
            "after": losses,  # nothing is drawn, so what the last step led to is where this one starts
            "gramian": jacobian @ jacobian.T,
            "noise": torch.zeros_like(jacobian),  # with two tasks every order is the same
        }
        unit = strategy.replace(floor=toy.lowest) if floored else strategy
        weights, state = unit(member.state, signals)
        theta, adam = descend(member.theta, weights @ jacobian, member.adam, lr=1e-3)
        return Member(theta, adam, state)

    return step


def run(
    specs: Mapping[str, str], sign: float = 1.0, dtype: torch.dtype = torch.float64, compiled: bool = True
) -> Paths:
    """The path of every strategy from every start: CAGrad's three with L1 as it is, then Nash-MTL's five with L1 / 10.

    Args:
        specs: of strategies, by name.
        sign: of the tanh in f2: +1 as in the public code, -1 as in print.
        dtype: of all numbers.
        compiled: by torch.compile, which needs a C++ compiler and is 200 times as fast.

    Returns:
        by name (points, 8, 2), a point every `RECORDED` steps, the start first.
    """
    strategies = {name: mtl.make(spec) for name, spec in specs.items()}
    steps = {name: vmap(stepper(strategy)) for name, strategy in strategies.items()}
    starts = torch.tensor(CAGRAD_STARTS + NASH_STARTS, dtype=dtype)
    scale = torch.tensor([1.0] * len(CAGRAD_STARTS) + [0.1] * len(NASH_STARTS), dtype=dtype)
    toys = Toy(scale, torch.full_like(scale, sign), -21 * torch.stack([scale, torch.ones_like(scale)], -1))
    population = {
        name: Member(starts, vmap(moments)(starts), vmap(strategy.init)(starts))
        for name, strategy in strategies.items()
    }

    def advance(population: dict[str, Member]) -> dict[str, Member]:
        return {name: steps[name](members, toys) for name, members in population.items()}

    if compiled:
        advance = torch.compile(advance, fullgraph=True)
    paths = {name: [starts] for name in specs}
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):  # the compiler warns of its own parts
            warnings.simplefilter("ignore", category)
        for done in range(1, CAGRAD_STEPS + 1):
            population = advance(population)
            if done % RECORDED == 0:
                for name, members in population.items():
                    paths[name].append(members.theta)
    return {name: torch.stack(points) for name, points in paths.items()}


def settings(paths: Paths) -> tuple[Paths, Paths]:
    """The paths (points, 3, 2) of CAGrad's setting and (points, 5, 2) of Nash-MTL's, which is half as long."""
    split, half = len(CAGRAD_STARTS), NASH_STEPS // RECORDED + 1
    return {name: p[:, :split] for name, p in paths.items()}, {name: p[:half, split:] for name, p in paths.items()}


def on_front(theta: Tensor) -> Tensor:
    """Which of the points (N, 2) lie on the Pareto front."""
    return ((theta[:, 1] - FRONT).abs() < 0.25) & (theta[:, 0].abs() < 7.25)


def check(paths: Paths) -> list[Claim]:
    """The claims of the three papers about the strategies that were run."""
    ours, claims = settings(paths), []

    def ends(setting: int, name: str) -> Tensor:
        return ours[setting][name][-1]

    def reach(setting: int, name: str) -> str:
        at = on_front(ends(setting, name))
        return f"{int(at.sum())} of {len(at)}"

    def apart(theta: Tensor) -> bool:
        return float(torch.pdist(theta).min()) > 1

    optimum = torch.tensor([0.0, FRONT], dtype=next(iter(paths.values())).dtype)
    if "equal" in paths:
        claims.append(_counted("CAGrad's setting: Adam on the sum sticks", "2 of 3 stick", ends(0, "equal"), 1))
    for name in ("mgda", "pcgrad"):
        if name in paths:
            theta = ends(0, name)
            holds = bool(on_front(theta).all()) and apart(theta)
            text = f"CAGrad's setting: {name} stops at arbitrary points of the front"
            claims.append(Claim(text, "3 of 3, apart", f"{reach(0, name)}, {_points(theta)}", holds))
    if "cagrad" in paths:
        far = float((ends(0, "cagrad") - optimum).norm(dim=1).max())
        text = "CAGrad's setting: cagrad reaches the minimiser of the average"
        claims.append(Claim(text, f"(0, {FRONT})", f"at most {far:.3f} away", far < 0.05))
    if "equal" in paths:
        claims.append(_counted("Nash-MTL's setting: Adam on the sum sticks", "1 of 5 sticks", ends(1, "equal"), 4))
    claims += [
        _counted(f"Nash-MTL's setting: {name} reaches the front", "5 of 5", ends(1, name), 5)
        for name in ("mgda", "nash", "famo")
        if name in paths
    ]
    for name in ("pcgrad", "cagrad"):  # papers and precisions differ about (9, 9)
        if name in paths:
            text = f"Nash-MTL's setting: {name} reaches the front"
            claims.append(Claim(text, "5 of 5", f"{reach(1, name)}, {_points(ends(1, name)[2:3])} from (9, 9)", None))
    return claims


def _counted(text: str, published: str, theta: Tensor, wanted: int) -> Claim:
    reached = on_front(theta)
    stuck = f", {_points(theta[~reached])}" if not bool(reached.all()) else ""
    return Claim(
        text, published, f"{int(reached.sum())} of {len(reached)} reach it{stuck}", int(reached.sum()) == wanted
    )


def _points(theta: Tensor) -> str:
    return " ".join(f"({x:.2f}, {y:.2f})" for x, y in theta.tolist())


def draw(paths: Paths, sign: float) -> Figure:
    """Trajectories on contours of the average loss, a row a setting."""
    shown = [name for name in ("equal", "mgda", "pcgrad", "cagrad", "nash", "famo", "imtl-g") if name in paths]
    across = np.linspace(-11, 11, 150)
    plane = torch.tensor(np.stack(np.meshgrid(across, across), -1).reshape(-1, 2))
    with styled():
        drawing = figure(1.6 * len(shown), 3.7)
        axes = drawing.subplots(2, len(shown), sharex=True, sharey=True, squeeze=False)
        for row, setting, scale, label in zip(axes, settings(paths), (1.0, 0.1), ("CAGrad", "Nash-MTL"), strict=True):
            toy = Toy(torch.tensor(scale), torch.tensor(sign), torch.zeros(2))
            level = vmap(toy.losses)(plane).mean(-1).reshape(150, 150).numpy()
            for panel, name in zip(row, shown, strict=True):
                panel.contour(across, across, level, levels=12, colors=FAINT, linewidths=0.6, linestyles="solid")
                panel.plot([-7, 7], [FRONT, FRONT], color=GREY, linewidth=3, alpha=0.5)
                for path in setting[name].numpy().swapaxes(0, 1):
                    reached = bool(on_front(torch.tensor(path[-1:])).all())
                    panel.plot(*path.T, color=BLUE if reached else "#d55e00", linewidth=1.2)
                    panel.plot(*path[0], "o", color=INK, markersize=2.5)
                    panel.plot(*path[-1], "*", color=BLUE if reached else "#d55e00", markersize=7)
            row[0].set_ylabel(f"{label}'s setting")
        for panel, name in zip(axes[0], shown, strict=True):
            panel.set_title(name)
            panel.set(xlim=(-11, 11), ylim=(-11, 11), xticks=(-10, 0, 10), yticks=(-10, 0, 10))
        drawing.tight_layout(pad=0.4)
    return drawing


def main(argv: Sequence[str] | None = None) -> list[Claim]:
    parser = arguments("The two-objective toy of CAGrad, Nash-MTL and FAMO.", "two_objective_toy")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES), metavar="NAME")
    parser.add_argument("--printed", action="store_true", help="f2 with the sign in print instead of the code's")
    parser.add_argument("--float32", action="store_true", help="single precision")
    parser.add_argument("--eager", action="store_true", help="without torch.compile: needs no C++ compiler, is slow")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    started, sign = time.perf_counter(), -1.0 if options.printed else 1.0
    specs = {name: STRATEGIES[name] for name in options.strategies}
    dtype = torch.float32 if options.float32 else torch.float64
    paths = run(specs, sign, dtype, compiled=not options.eager)
    claims = check(paths)
    figures = {
        f"ends of {label}'s setting": {name: path[-1].tolist() for name, path in setting.items()}
        for label, setting in zip(("CAGrad", "Nash-MTL"), settings(paths), strict=True)
    }
    for label, ends in figures.items():
        print(f"{label}: " + ", ".join(f"{name} {_points(torch.tensor(theta))}" for name, theta in ends.items()))
    settled = {"strategies": specs, "sign": sign, "dtype": str(dtype)}
    publish(options.out, claims, figures, draw(paths, sign), time.perf_counter() - started, settled)
    return claims


if __name__ == "__main__":
    main()
