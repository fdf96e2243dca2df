"""GradNorm's toy: regressions on one shared structure whose outputs differ in scale, 1 to 100.

    python experiments/gradnorm_toy/run.py

The seeds of a strategy train side by side: `vmap` gives each its own network, data, optimizer and strategy state.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call, jacrev, stack_module_state, vmap

import mtl
from mtl.report.figures.style import Colours, figure, styled
from mtl.stats import Interval, mean_interval

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments._common import Claim, arguments, publish

INPUTS, OUTPUTS, WIDTH, BATCH, TEST = 250, 100, 100, 100, 1000
SCALES = {2: (1.0, 100.0), 10: tuple(np.logspace(0, 2, 10).tolist())}
STRATEGIES = ("equal", "gradnorm", "uncertainty", "static")


class Data(NamedTuple):
    """One seed's functions f_i(x) = sigma_i tanh((B + eps_i) x): the matrices (T, 100, 250) and sigma (T,)."""

    matrices: Tensor
    scales: Tensor

    def targets(self, x: Tensor) -> Tensor:
        """(N, T, 100) for x (N, 250)."""
        return self.scales[:, None] * torch.tanh(torch.einsum("nd,tod->nto", x, self.matrices))


class Network(nn.Module):
    """Four shared layers of 100 ReLU units, the last one apart as GradNorm reads its gradients, and linear heads."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        first = [nn.Linear(INPUTS, WIDTH), nn.ReLU()]
        self.trunk = nn.Sequential(*first, nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.last = nn.Linear(WIDTH, WIDTH)
        self.heads = nn.Linear(WIDTH, tasks * OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.heads(torch.relu(self.last(self.trunk(x)))).unflatten(-1, (-1, OUTPUTS))
        return outputs


def spec(name: str, scales: Sequence[float]) -> str:
    """The strategy's spec with the paper's alpha; all on one scale, sum w = T."""
    settings = {"gradnorm": ":alpha=0.12,lr=0.025", "static": ":weights=" + "/".join(f"{s**-2:.6g}" for s in scales)}
    return name + settings.get(name, "") + "+normalize"


def inputs(generators: Sequence[torch.Generator], points: int) -> Tensor:
    """(seeds, points, 250) of unit norm."""
    drawn = torch.stack([torch.randn(points, INPUTS, generator=generator) for generator in generators])
    return nn.functional.normalize(drawn, dim=-1)


def train(name: str, tasks: int, seeds: int, steps: int, points: int = 40) -> Tensor:
    """The sum over tasks of L_i(t) / L_i(0) on test data, (seeds, points + 1) at equal distances, t = 0 first."""
    if seeds < 2 or steps < points:
        raise ValueError(f"seeds={seeds} must be at least 2, for intervals, and steps={steps} at least {points}")
    scales = SCALES[tasks]
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    shared = torch.stack([10 * torch.randn(1, OUTPUTS, INPUTS, generator=g) for g in generators])
    own = torch.stack([3.5 * torch.randn(tasks, OUTPUTS, INPUTS, generator=g) for g in generators])
    data = Data(shared + own, torch.tensor(scales).expand(seeds, tasks))
    networks = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        networks.append(Network(tasks))
    parameters, _ = stack_module_state(networks)
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3)  # elementwise, so one serves all seeds
    strategy = mtl.make(spec(name, scales))

    def losses(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        each: Tensor = (functional_call(networks[0], parameters, (x,)) - y).square().mean((0, 2))
        return each

    def gramian(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        weight = parameters["last.weight"]
        rows = jacrev(lambda weight: losses({**parameters, "last.weight": weight}, x, y))(weight).flatten(1)
        products: Tensor = rows @ rows.T
        return products

    x_test = inputs(generators, TEST)
    y_test = vmap(Data.targets)(data, x_test)
    with torch.no_grad():
        first = vmap(losses)(parameters, x_test, y_test)
    state = vmap(strategy.init)(first)
    curve = [torch.full((seeds,), float(tasks))]
    for step in range(1, steps + 1):
        x = inputs(generators, BATCH)
        y = vmap(Data.targets)(data, x)
        current = vmap(losses)(parameters, x, y)
        signals = {"losses": current.detach()}
        if "gramian" in strategy.needs:
            with torch.no_grad():
                signals["gramian"] = vmap(gramian)(parameters, x, y)
        weights, state = vmap(strategy)(state, signals)
        optimizer.zero_grad()
        (weights * current).sum().backward()
        optimizer.step()
        if step % (steps // points) == 0:
            with torch.no_grad():
                curve.append((vmap(losses)(parameters, x_test, y_test) / first).sum(-1))
    return torch.stack(curve, -1)


class Regime(NamedTuple):
    """A part of training: the first tenth or the last tenth of the recorded points."""

    name: str
    part: slice

    def of(self, curves: Tensor) -> Tensor:
        """(seeds,) means over the regime of curves (seeds, points + 1)."""
        return curves[:, 1:][:, self.part].mean(-1)


def regimes(points: int) -> tuple[Regime, Regime]:
    tenth = max(points // 10, 1)
    return Regime("early", slice(0, tenth)), Regime("late", slice(points - tenth, None))


def check(curves: dict[int, dict[str, Tensor]]) -> list[Claim]:
    """GradNorm against equal and uncertainty weighting, by paired 95 % t intervals over seeds; static as measured."""
    claims = []
    for tasks, by_name in curves.items():
        for regime in regimes(by_name["equal"].shape[1] - 1):
            value = {name: regime.of(curve) for name, curve in by_name.items()}
            for first, second in (("gradnorm", "equal"), ("gradnorm", "uncertainty"), ("static", "gradnorm")):
                gap = paired(value[first], value[second])
                assert gap.high is not None
                means = f"{value[first].mean():.3f} against {value[second].mean():.3f}"
                ours = f"{means}, difference {gap.low:.3f} to {gap.high:.3f}"
                text = f"T = {tasks}, {regime.name}: {first} below {second}"
                published = first == "gradnorm"
                claims.append(
                    Claim(
                        text,
                        "below (figure 2)" if published else "not shown",
                        ours,
                        gap.high < 0 if published else None,
                    )
                )
    return claims


def paired(ours: Tensor, theirs: Tensor) -> Interval:
    """The 95 % t interval of the mean difference of values (seeds,) paired by seed."""
    return mean_interval((ours - theirs).tolist())


def draw(curves: dict[int, dict[str, Tensor]], steps: dict[int, int]) -> Figure:
    """Mean over seeds of the summed test loss ratios, with the range over seeds."""
    with styled():
        drawing = figure(8.6, 3.2)
        colours = Colours(STRATEGIES, "equal")
        for axes, (tasks, by_name) in zip(
            drawing.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
        ):
            for name, values in by_name.items():
                at = np.linspace(0, steps[tasks], values.shape[1])
                axes.fill_between(at, values.amin(0), values.amax(0), color=colours[name], alpha=0.15, linewidth=0)
                label = "static 1/sigma²" if name == "static" else name
                axes.plot(at, values.mean(0), color=colours[name], linestyle=colours.dashes(name), label=label)
            axes.set(title=f"T = {tasks}", xlabel="step")
            axes.set_ylabel("sum of L(t) / L(0), test")
        axes.legend()
        drawing.tight_layout(pad=0.5)
    return drawing


def main(argv: Sequence[str] | None = None) -> list[Claim]:
    parser = arguments("GradNorm's toy: regressions of unlike scale.", "gradnorm_toy")
    parser.add_argument("--seeds", type=int, default=5, help="networks and data sets a strategy, 2 or more")
    parser.add_argument("--steps", type=int, nargs=2, default=(10_000, 5_000), help="for T = 2 and for T = 10")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.perf_counter()
    curves: dict[int, dict[str, Tensor]] = {}
    steps = dict(zip(SCALES, options.steps, strict=True))
    seconds = {}
    for tasks in SCALES:
        curves[tasks] = {}
        for name in STRATEGIES:
            begun = time.perf_counter()
            curves[tasks][name] = train(name, tasks, options.seeds, steps[tasks])
            seconds[f"T = {tasks}, {name}"] = round(time.perf_counter() - begun, 1)
            print(f"T = {tasks}, {name}: {curves[tasks][name][:, -1].mean():.3f}, {seconds[f'T = {tasks}, {name}']} s")
    figures = {f"T = {t}": {name: c.tolist() for name, c in by_name.items()} for t, by_name in curves.items()}
    settings = {"seeds": options.seeds, "steps": {f"T = {t}": n for t, n in steps.items()}, "seconds": seconds}
    claims = check(curves)
    publish(options.out, claims, figures, draw(curves, steps), time.perf_counter() - started, settings)
    return claims


if __name__ == "__main__":
    main()
