"""Uncertainty weighting finds the noise of two regressions: the notebook of Kendall, Gal & Cipolla, and many points.

python experiments/kendall_regression/run.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import mtl
from mtl.report.figures.style import GREY, INK, figure, log_scale, styled, task_colours
from mtl.step.arguments import Scale

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments._common import Claim, arguments, publish

TRUTH = (10.0, 1.0)
PUBLISHED = (8.58750, 0.91981)
WITHIN = (0.05, 0.005)


def data(points: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """x (points, 1) and y (points, 2) with noise of standard deviations 10 and 1, drawn in the notebook's order."""
    x = random.randn(points, 1)
    first = 2 * x + 8 + TRUTH[0] * random.randn(points, 1)
    second = 3 * x + 3 + TRUTH[1] * random.randn(points, 1)
    return x.astype(np.float32), np.hstack([first, second]).astype(np.float32)


def sigmas(balancer: mtl.Balancer) -> list[float]:
    """The standard deviations that uncertainty weighting has learned."""
    deviations: Tensor = (balancer.state.log_variance / 2).exp()
    return deviations.tolist()


def notebook(epochs: int = 2000) -> list[list[float]]:
    """The notebook's run: 100 points, a network of 1024 hidden units, batches of 20; the sigmas after every epoch."""
    random = np.random.RandomState(0)
    torch.manual_seed(0)
    x, y = data(100, random)
    trunk = nn.Sequential(nn.Linear(1, 1024), nn.ReLU())
    heads = nn.ModuleList([nn.Linear(1024, 1), nn.Linear(1024, 1)])
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-3)
    balancer = mtl.Balancer("uncertainty:lr=0.001", shared=trunk.parameters(), scale="raw")
    history = []
    for _ in range(epochs):
        order = np.arange(len(x))
        random.shuffle(order)
        x, y = x[order], y[order]  # the notebook shuffles what the last epoch left
        for inputs, targets in zip(torch.from_numpy(x).split(20), torch.from_numpy(y).split(20), strict=True):
            features = trunk(inputs)
            losses = torch.stack([(heads[k](features)[:, 0] - targets[:, k]).square().mean() for k in (0, 1)])
            optimizer.zero_grad()
            balancer.backward(losses)
            optimizer.step()
        history.append(sigmas(balancer))
    return history


def companion(scale: Scale, steps: int, points: int = 20_000) -> list[list[float]]:
    """Enough points for the truth and a linear model that cannot overfit; the sigmas after every tenth step.

    Args:
        scale: of the weights, `sum_to_k` as balancers have it or `raw` as the notebook does.
        steps: of Adam.
        points: in the one batch.
    """
    x, y = (torch.from_numpy(part) for part in data(points, np.random.RandomState(0)))
    torch.manual_seed(0)
    model = nn.Linear(1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    balancer = mtl.Balancer("uncertainty:lr=0.01", shared=model.parameters(), scale=scale)
    history = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        balancer.backward((model(x) - y).square().mean(0))
        optimizer.step()
        if step % 10 == 0:
            history.append(sigmas(balancer))
    return history


def check(small: Sequence[float], large: Mapping[str, Sequence[Sequence[float]]]) -> list[Claim]:
    """The claims about the last sigmas of the notebook's run, and about the companion's histories by scale."""
    claims = [
        Claim(
            f"N = 100: sigma of task {k + 1}, within {WITHIN[k]}",
            f"{PUBLISHED[k]:.5f}",
            f"{small[k]:.5f}",
            abs(small[k] - PUBLISHED[k]) <= WITHIN[k],
        )
        for k in (0, 1)
    ]
    for scale, history in large.items():
        for part in (len(history) // 2, len(history)):
            found = history[part - 1]
            text = f"N = 20,000: both sigmas within 2 % of the truth, {10 * part} steps, scale={scale}"
            holds = all(abs(found[k] / TRUTH[k] - 1) <= 0.02 for k in (0, 1))
            claims.append(Claim(text, "10, 1 (truth)", f"{found[0]:.3f}, {found[1]:.4f}", holds))
    return claims


def draw(small: Sequence[Sequence[float]], large: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """The learned sigmas over training, with what is published and what is true."""
    with styled():
        drawing = figure(8.6, 3.0)
        left, right = drawing.subplots(1, 2, sharey=True)
        for axes, history, every, dashes in (
            (left, small, 1, "-"),
            (right, large["raw"], 10, "-"),
            (right, large["sum_to_k"], 10, "--"),
        ):
            for k, colour in enumerate(task_colours(2)):
                curve = [row[k] for row in history]
                axes.plot(np.arange(1, len(curve) + 1) * every, curve, color=colour, linestyle=dashes)
        for k, colour in enumerate(task_colours(2)):
            left.axhline(PUBLISHED[k], color=INK, linestyle="--", linewidth=0.8)
            left.plot([], [], color=colour, label=f"task {k + 1}")
            for axes in (left, right):
                axes.axhline(TRUTH[k], color=GREY, linestyle=":", linewidth=1)
        left.plot([], [], color=INK, linestyle="--", linewidth=0.8, label="published")
        left.plot([], [], color=GREY, linestyle=":", linewidth=1, label="truth")
        right.plot([], [], color=INK, label="scale=raw")
        right.plot([], [], color=INK, linestyle="--", label="scale=sum_to_k")
        left.set(title="The notebook: N = 100, 1024 units", xlabel="epoch", ylabel="learned sigma")
        right.set(title="N = 20,000, linear", xlabel="step")
        for axes in (left, right):
            log_scale(axes)
            axes.legend(loc="center right")
        drawing.tight_layout(pad=0.5)
    return drawing


def main(argv: Sequence[str] | None = None) -> list[Claim]:
    parser = arguments("Kendall's regression: learned noise of two tasks.", "kendall_regression")
    parser.add_argument("--epochs", type=int, default=2000, help="of the notebook's run")
    parser.add_argument("--steps", type=int, default=8000, help="of the companion, of which the half is shown as well")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.perf_counter()
    small, large = notebook(options.epochs), {scale: companion(scale, options.steps) for scale in ("sum_to_k", "raw")}
    claims = check(small[-1], large)
    settings = {"seed": 0, "epochs": options.epochs, "steps": options.steps}
    figures = {"notebook": small[-1], "companion": {scale: history[-1] for scale, history in large.items()}}
    publish(options.out, claims, figures, draw(small, large), time.perf_counter() - started, settings)
    return claims


if __name__ == "__main__":
    main()
