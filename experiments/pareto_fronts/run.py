"""Pareto fronts of VLMOP2: where scalarization, MGDA, Pareto MTL, EPO and smooth Tchebycheff end.

    python experiments/pareto_fronts/run.py

Every strategy runs from ten starts at once; one that takes a preference takes another one in each.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import jacrev, vmap

import mtl
from mtl.report.figures.style import BLUE, FAINT, GREY, figure, styled

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments._common import Claim, arguments, publish

DIMENSIONS, RUNS, STEPS = 20, 10, 100
MUS = (1.0, 0.1, 0.01)
FRONT_VOLUME = 0.3421


def losses(x: Tensor) -> Tensor:
    """(2,) losses at x (20,), both in [0, 1)."""
    aside = 1 / math.sqrt(DIMENSIONS)
    return 1 - torch.exp(-torch.stack([(x - aside).square().sum(), (x + aside).square().sum()]))


def front(points: int = 1000) -> Tensor:
    """(points, 2) losses on the Pareto front, x = s / sqrt(n) for s in [-1, 1]."""
    along = torch.linspace(-1, 1, points, dtype=torch.float64)[:, None].expand(-1, DIMENSIONS)
    return vmap(losses)(along / math.sqrt(DIMENSIONS))


def descend(spec: str, starts: Tensor, preferences: Mapping[str, Tensor], step: float, steps: int) -> Tensor:
    """Gradient descent from every start, each with its row of the preferences; the losses on the way.

    Args:
        spec: of a strategy.
        starts: (members, 20).
        preferences: hyperparameters by name, (members, ...) each.
        step: its length.
        steps: their number.

    Returns:
        (steps + 1, members, 2).
    """
    strategy = mtl.make(spec)

    def advance(x: Tensor, state: Any, own: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        jacobian = jacrev(losses)(x)
        signals = {"losses": losses(x), "gramian": jacobian @ jacobian.T}
        weights, state = strategy.replace(**own)(state, signals)
        return x - step * weights @ jacobian, state

    x, state = starts, vmap(strategy.init)(starts[:, :2])
    path = [vmap(losses)(x)]
    for _ in range(steps):
        x, state = vmap(advance)(x, state, dict(preferences))
        path.append(vmap(losses)(x))
    return torch.stack(path)


def hypervolume(points: Tensor) -> float:
    """The area that points (N, 2) dominate below (1, 1)."""
    inside = points[(points < 1).all(1)]
    ascending = inside[inside[:, 0].argsort()]
    lowest = torch.cat([torch.ones(1, dtype=points.dtype), ascending[:, 1].cummin(0).values])
    gained = (lowest[:-1] - lowest[1:]) * (1 - ascending[:, 0])
    return float(gained.sum())


def quarter_circle(start: float, end: float, points: int) -> Tensor:
    """(points, 2) unit vectors at equal angles between two."""
    angle = torch.linspace(start, end, points, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], -1)


RAYS = quarter_circle(math.pi / 20, 9 * math.pi / 20, 4)
REFERENCES = quarter_circle(0, math.pi / 2, RUNS)


def run(seed: int) -> dict[str, Tensor]:
    """The losses on the way, (steps + 1, members, 2), by strategy."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.rand(RUNS, DIMENSIONS, generator=generator, dtype=torch.float64) - 0.5
    share = torch.linspace(0.05, 0.95, RUNS, dtype=torch.float64)
    others = torch.stack([torch.cat([REFERENCES[:k], REFERENCES[k + 1 :]]).flatten() for k in range(RUNS)])
    paths = {
        "static": descend("static", starts, {"weights": torch.stack([share, 1 - share], -1)}, 1.0, STEPS),
        "mgda": descend("mgda", starts, {}, 1.0, STEPS),
        "pareto-mtl": descend("pareto-mtl", starts, {"preference": REFERENCES, "others": others}, 1.0, STEPS),
    }
    few, inverse = starts[: len(RAYS)], {"preference": 1 / RAYS}  # both make r_k L_k equal: L on the ray of 1 / r
    paths["epo"] = descend("epo", few, inverse, 1.0, STEPS)
    for mu in MUS:  # the curvature grows as mu falls, so the step is short
        paths[f"stch, mu = {mu:g}"] = descend(f"stch:form=plain,mu={mu}", few, inverse, 0.1, 5 * STEPS)
    return paths


def off_ray(ends: Tensor) -> float:
    """The largest angle, in degrees, between ends (4, 2) and their rays."""
    angle = torch.atan2(ends[:, 1], ends[:, 0]) - torch.atan2(RAYS[:, 1], RAYS[:, 0])
    return float(torch.rad2deg(angle.abs().max()))


def off_front(ends: Tensor) -> float:
    """The largest distance of ends (N, 2) from the front."""
    return float(torch.cdist(ends, front()).min(1).values.max())


def check(paths: Mapping[str, Tensor]) -> list[Claim]:
    """The claims of the papers about where strategies end."""
    ends = {name: path[-1] for name, path in paths.items()}
    volume = {name: hypervolume(points) for name, points in ends.items()}
    whole = hypervolume(front(100_000))
    corners = torch.tensor([[1 - math.exp(-4), 0.0], [0.0, 1 - math.exp(-4)]], dtype=torch.float64)
    from_corner = float(torch.cdist(ends["static"], corners).min(1).values.max())
    apart = float((ends["mgda"][:, 0] - ends["mgda"][:, 1]).abs().max())
    ascending = ends["pareto-mtl"][ends["pareto-mtl"][:, 0].argsort()]
    gap = float((ascending[1:] - ascending[:-1]).norm(dim=1).max())
    epo = ends["epo"]
    angles = [off_ray(ends[f"stch, mu = {mu:g}"]) for mu in MUS]
    spreads = gap < 0.25 and off_front(ascending) < 0.02 and volume["pareto-mtl"] > volume["mgda"]
    areas = ", ".join(f"{name} {volume[name]:.3f}" for name in ("static", "mgda", "pareto-mtl"))
    return [
        Claim("hypervolume of the front", f"{FRONT_VOLUME}", f"{whole:.4f}", abs(whole - FRONT_VOLUME) < 1e-4),
        Claim(
            "linear scalarization ends at the end points only",
            "end points",
            f"{from_corner:.3f} from one at most",
            from_corner < 0.02,
        ),
        Claim("MGDA ends in the middle", "middle", f"losses {apart:.3f} apart at most", apart < 0.33),
        Claim(
            "Pareto MTL spreads over the front",
            "spreads",
            f"neighbours {gap:.3f} apart and {off_front(ascending):.3f} off the front at most",
            spreads,
        ),
        Claim(f"hypervolume of ten runs, front {FRONT_VOLUME}", "not given", areas, None),
        Claim(
            "EPO hits the preference's ray on the front",
            "on the ray",
            f"{off_ray(epo):.2f}° off the ray and {off_front(epo):.4f} off the front at most",
            off_ray(epo) < 1 and off_front(epo) < 0.01,
        ),
        Claim(
            "STCH is nearer to the ray as mu falls",
            "nearer",
            ", ".join(f"mu = {mu:g}: {angle:.1f}°" for mu, angle in zip(MUS, angles, strict=True)),
            angles == sorted(angles, reverse=True) and angles[-1] < 3,
        ),
    ]


def draw(paths: Mapping[str, Tensor]) -> Figure:
    """The front, the ways there and their ends, a panel a strategy."""
    curve = front().numpy()
    with styled():
        drawing = figure(8.6, 4.6)
        panels = list(drawing.subplots(2, 4, sharex=True, sharey=True).flat)
        for axes, (name, path) in zip(panels, paths.items(), strict=False):
            if path.shape[1] == len(RAYS):
                for ray in RAYS.numpy():
                    axes.plot([0, 1.1 * ray[0]], [0, 1.1 * ray[1]], color=FAINT, linewidth=0.8)
            axes.plot(*curve.T, color=GREY, linewidth=1)
            for member in path.numpy().swapaxes(0, 1):
                axes.plot(*member.T, color=BLUE, linewidth=0.5, alpha=0.4)
                axes.plot(*member[-1], "o", color=BLUE, markersize=4)
            axes.set(title=name, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=np.linspace(0, 1, 3))
        for spare in panels[len(paths) :]:
            spare.remove()
        drawing.supxlabel("f1")
        drawing.supylabel("f2")
        drawing.tight_layout(pad=0.5)
    return drawing


def main(argv: Sequence[str] | None = None) -> list[Claim]:
    parser = arguments("Pareto fronts of VLMOP2.", "pareto_fronts")
    parser.add_argument("--seed", type=int, default=0, help="of the starts")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.perf_counter()
    paths = run(options.seed)
    claims = check(paths)
    figures = {name: path[-1].tolist() for name, path in paths.items()}
    publish(options.out, claims, figures, draw(paths), time.perf_counter() - started, {"seed": options.seed})
    return claims


if __name__ == "__main__":
    main()
