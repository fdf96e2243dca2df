"""Speed of a population against the same runs one after another, and what a member costs as their number grows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtl.balancer import Balancer
from mtl.bench.timing import clock
from mtl.population import Population
from mtl.population.memory import bytes_a_member

#: Bar of the design: so many times faster than single runs with 64 members, by type of device.
BARS = {"cpu": 8.0, "cuda": 30.0}

_BATCH, _INPUTS, _WIDTH, _TASKS = 64, 20, 32, 2
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STRATEGIES = ("equal", "famo", "gradnorm")
_PEER = "mtl.Balancer, one run after another"


class _Network(nn.Module):
    """20-32-32 and a linear head a task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(_INPUTS, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(_WIDTH, 1) for _ in range(_TASKS))

    def shared_parameters(self) -> Any:
        return self.trunk.parameters()


def _losses(model: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    features = model.trunk(batch[0])
    return {str(k): (head(features)[:, 0] - batch[1][:, k]).square().mean() for k, head in enumerate(model.heads)}


def run(
    *,
    members: int = 64,
    steps: int = 100,
    rounds: int = 5,
    sizes: Sequence[int] = _SIZES,
    strategies: Sequence[str] = STRATEGIES,
    device: torch.device | str = "cpu",
    tell: Callable[[str], None] = lambda _text: None,
) -> list[dict[str, Any]]:
    """Time a population against single runs, one after another.

    Both sides begin with making the models. They take turns, and the medians over `rounds` turns count. The rows of the
    cost curve, `N=...`, have `ours` and `peer` for one member, and `bytes_a_member`.

    Args:
        members: of the population that is compared with single runs.
        steps: of each run.
        rounds: turns of each side.
        sizes: numbers of members of the cost curve; none leaves it out.
        strategies: of the comparison with single runs.
        device: of both sides.
        tell: called with a line after each case.

    Returns:
        A row for each case: `case, ours, peer, peer_name, ratio`, in seconds for `steps` steps.
    """
    device = torch.device(device)
    _population("equal", 2, 3, device)
    _singles("equal", 1, 3, device)
    rows = []
    for strategy in strategies:
        ours, peer = [], []
        for _ in range(rounds):
            ours.append(_timed(partial(_population, strategy, members, steps, device), device))
            peer.append(_timed(partial(_singles, strategy, members, steps, device), device))
        rows.append(_row(f"{strategy}, {members} members", statistics.median(ours), statistics.median(peer)))
        tell(f"{rows[-1]['case']}: {rows[-1]['ratio']:.1f}x")
    for size in sizes:
        rows.append(_of_size(size, max(steps // 5, 1), rounds, device))
        tell(f"{rows[-1]['case']}: {rows[-1]['ratio']:.1f}x, {rows[-1]['bytes_a_member'] / 1024:.0f} KiB a member")
    return [{**row, "device": device.type} for row in rows]


def verdict(rows: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Whether the population of `run` meets the bar, in words and as a truth value."""
    slowest = min((row for row in rows if "bytes_a_member" not in row), key=lambda row: float(row["ratio"]))
    bar = BARS[slowest["device"]]
    met = bool(slowest["ratio"] >= bar)
    words = "at least" if met else "NOT at least"
    return f"{words} {bar:g}x faster than single runs: {slowest['ratio']:.1f}x ({slowest['case']})", met


def _of_size(size: int, steps: int, rounds: int, device: torch.device) -> dict[str, Any]:
    population, batch = _prepared("equal", size, device)
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(_timed(lambda: [population.step(batch) for _ in range(steps)], device) / size)
        peer.append(_timed(partial(_singles, "equal", 1, steps, device), device))
    row = _row(f"N={size}", statistics.median(ours), statistics.median(peer))
    row["bytes_a_member"] = bytes_a_member(population, lambda: population.step(batch))
    return row


def _row(case: str, ours: float, peer: float) -> dict[str, Any]:
    return {"case": case, "ours": ours, "peer": peer, "peer_name": _PEER, "ratio": peer / ours}


def _prepared(strategy: str, size: int, device: torch.device) -> tuple[Population, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(size, _BATCH, _INPUTS, generator=generator).to(device)
    targets = torch.randn(size, _BATCH, _TASKS, generator=generator).to(device)
    population = Population(_Network, _losses, strategy, range(size), device=device)
    return population, (inputs, targets)


def _population(strategy: str, size: int, steps: int, device: torch.device) -> None:
    population, batch = _prepared(strategy, size, device)
    for _ in range(steps):
        population.step(batch)


def _singles(strategy: str, runs: int, steps: int, device: torch.device) -> None:
    for seed in range(runs):
        _single(strategy, seed, steps, device)


def _single(strategy: str, seed: int, steps: int, device: torch.device) -> None:
    torch.manual_seed(seed)
    model = _Network().to(device)
    optimizer = torch.optim.Adam(model.parameters())
    balancer = Balancer(strategy, model.shared_parameters(), seed=seed)
    batch = torch.randn(_BATCH, _INPUTS, device=device), torch.randn(_BATCH, _TASKS, device=device)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        balancer.backward(_losses(model, batch), recompute=lambda: _losses(model, batch))
        optimizer.step()


def _timed(work: Callable[[], object], device: torch.device) -> float:
    now = clock(device)
    started = now()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return now() - started
