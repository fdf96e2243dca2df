"""Float32 against float64: a strategy's weights hardly depend on the precision that losses and gradients come in.

Both see the same numbers, those of float32, and differ in what is computed from them, the Gramian included: rounding
there is relative to the lengths of two gradients, so tasks that differ by orders of magnitude lose nothing by it.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mtl
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from tests.problems import TwoLayers, random_signals
from tests.strategies.solvers.gramians import difficult
from tests.strategies.test_conformance import SIZED, SPECS, accepts

Signals = dict[str, Tensor]

#: Largest error of a task's weight relative to the largest weight, and of its share of the update to the largest share.
#: Nearly dependent gradients are allowed what rounding of their products leaves: `BY_CONDITION` times eps times the
#: condition of the matrix of cosines. No length enters.
USUAL, BY_CONDITION = 1e-5, 4.0
#: Where more is allowed, and why.
ALLOWED = {
    "pmgda": (1e-2, "its linear program is solved to 1e-7 of the longest gradient"),
    "moml": (5e-3, "Adam makes a whole step, lr, of components that cancel to rounding"),
    "wc-mgda": (1e-4, "its search ends where the objective is flat to rounding"),
}
DIFFERENT = ("both", "losses", "gradients")


def steps_of(tasks: int, exponent: float, what: str, kind: str, seed: int) -> list[tuple[Signals, Signals]]:
    """Signals in float32 and in float64 for some steps; `what` differs by 10^exponent from task to task."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, exponent, tasks, dtype=torch.float64)[torch.randperm(tasks, generator=generator)]

    def gradients(number: int) -> Tensor:
        rows = difficult(tasks, number)[kind]
        return (rows if what == "losses" else rows * scales[:, None]).float()

    result = []
    for step in range(3):
        usual = random_signals(tasks, 10 * seed + step, torch.float32)
        losses = usual["losses"] if what == "gradients" else (usual["losses"] * scales).float()
        batches = [gradients(100 * seed + 10 * step + batch) for batch in range(3)]
        both = []
        for dtype in (torch.float32, torch.float64):
            rows, other, third = (batch.to(dtype) for batch in batches)
            products = {"gramian": rows @ rows.T, "cross": other @ third.T, "align": other @ rows.T}
            kept = {name: usual[name].to(dtype) for name in ("noise", "dither")}
            dither = torch.rand(rows.shape[1], generator=torch.Generator().manual_seed(step)).to(dtype)
            measured = {"losses": losses.to(dtype), "after": (0.9 * losses).to(dtype), "jacobian": rows, **products}
            drawn = {**kept, "dither": dither, "implicit": products["align"], "epoch": torch.tensor(step)}
            both.append(measured | drawn)
        result.append((both[0], both[1]))
    return result


def error(strategy: Strategy, steps: list[tuple[Signals, Signals]]) -> float:
    """The largest error over the steps, as `USUAL` says."""
    states = [strategy.init_sized(each["losses"], each["jacobian"].shape[1]) for each in steps[0]]
    worst = 0.0
    for signals in steps:
        found = []
        for i, given in enumerate(signals):
            weights, states[i] = strategy(states[i], given)
            rows = strategy.gradients(states[i], given["jacobian"]).double()
            columns = weights.double() if weights.ndim == 2 else weights.double()[:, None]
            found.append((columns, columns * rows))
        for rough, exact in zip(*found, strict=True):
            size = exact.norm(dim=1).max().clamp(min=1e-300)
            worst = max(worst, ((rough - exact).norm(dim=1).max() / size).item())
    return worst


def condition(steps: list[tuple[Signals, Signals]]) -> float:
    """The largest condition of the matrices of cosines."""
    units = [torch.nn.functional.normalize(exact["jacobian"], dim=1) for _, exact in steps]
    return max(torch.linalg.cond(unit @ unit.T).item() for unit in units)


PROBLEMS = {
    (tasks, exponent, what, kind): (steps := steps_of(tasks, exponent, what, kind, seed=1), condition(steps))
    for tasks in (2, 3, 10)
    for exponent in (0, 3, 6)
    for what in DIFFERENT
    for kind in ("random", "conflicting")
}


@pytest.mark.parametrize("spec", SPECS)
def test_float32_gives_the_weights_of_float64_for_scales_from_1_to_1e6(spec):
    strategy = make(spec)
    usual, _ = ALLOWED.get(strategy.name, (USUAL, ""))
    for (tasks, exponent, what, kind), (steps, conditioned) in PROBLEMS.items():
        if spec in SIZED and not accepts(strategy, tasks):
            continue
        found, allowed = error(strategy, steps), usual + BY_CONDITION * torch.finfo(torch.float32).eps * conditioned
        assert found <= allowed, f"{tasks} tasks, {what} 1:1e{exponent}, {kind}: {found:.0e}, allowed {allowed:.0e}"


@pytest.mark.parametrize("spec", ["aligned", "aligned:scale=rmse", "ferero", "imtl-g", "config", "upgrad", "nash"])
@pytest.mark.parametrize("largest", [1e3, 1e6])
def test_losses_of_different_units_give_the_update_of_float64_in_the_balancer(spec, largest):
    units, updates = torch.tensor([1.0, largest**0.5, largest], dtype=torch.float64), []
    for dtype in (torch.float64, torch.float32):
        model = TwoLayers(dtype=torch.float32).to(dtype)
        model.x, model.y = model.x.to(dtype), model.y.to(dtype)
        mtl.Balancer(spec, model.trunk.parameters(), scale="raw").backward(model.losses() * units.to(dtype))
        updates.append(torch.cat([p.grad.flatten().double() for p in model.trunk.parameters()]))
    exact, rough = updates
    assert (rough - exact).norm() < 1e-3 * exact.norm()
