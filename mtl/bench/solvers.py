"""`mtl bench solvers`: the time to find weights from a Gramian, one at a time and 64 at once."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mtl.bench.bench import Bar, Bench, BenchScope, BenchTable, Row, chosen, pivot
from mtl.bench.peers import peer_module
from mtl.bench.timing import in_turn
from mtl.strategies import solvers

SIZES = (2, 5, 10, 20, 40)
BATCH = 64
#: Gramians solved one at a time, in turn: iteration counts of the peers depend on them.
SINGLES = 8
#: A peer counts as having solved the problem when its update is as close to ours as this.
TOLERANCE = 1e-3
SINGLE, BATCHED = "single", f"batch of {BATCH}"
BARS = {SINGLE: 3.0, BATCHED: 20.0}


def _uniform(gramian: Tensor) -> Tensor:
    return torch.full_like(gramian[..., 0], 1 / gramian.shape[-1])


def _cagrad(gramian: Tensor) -> Tensor:
    """The weights of CAGrad's update with c = 0.5, the mean's share included."""
    w = solvers.cagrad(gramian, 0.5)
    mean = gramian.mean((-2, -1)).sqrt().unsqueeze(-1)
    length = (w * (gramian @ w.unsqueeze(-1)).squeeze(-1)).sum(-1, keepdim=True).sqrt()
    return 1 / gramian.shape[-1] + 0.5 * mean / length * w


OURS: dict[str, Callable[[Tensor], Tensor]] = {
    "nash": solvers.nash,
    "cagrad": _cagrad,
    "fairgrad": lambda gramian: solvers.fair(gramian, 2.0),
    "mgda": solvers.min_norm,
    "upgrad": lambda gramian: solvers.project_cone(gramian, _uniform(gramian).diag_embed()).sum(-2),
    "dualproj": lambda gramian: solvers.project_cone(gramian, _uniform(gramian)),
}


class Solvers(Bench):
    """Each solver for each number of tasks."""

    peers = ("torchjd", "cvxpy", "clarabel", "ecos", "quadprog", "qpsolvers")

    def check(self, options: BenchScope) -> None:
        if options.models is not None:
            raise ValueError("--models: the bench of solvers has no models")
        _solvers(options)

    def run(self, options: BenchScope) -> Iterator[Row]:
        rounds = options.rounds or (1 if options.quick else 9)
        for name in _solvers(options):
            for size in (2, 5) if options.quick else SIZES:
                yield from _measure(name, size, rounds, options)

    def tables(self, rows: Sequence[Row]) -> list[BenchTable]:
        times = {row["case"]: f"{1e6 * row['ours']:.0f}" for row in rows}
        tables = [pivot("Our time a solve, µs", times)]
        for mode in BARS:
            cells = {}
            for row in rows:
                name, found, size = row["case"].partition(f" {mode}, ")
                if found:
                    cells[f"{name} ({row['peer_name']}), {size}"] = _marked(row)
            title = f"Times faster, {mode} (* where the peer's solution is further than {TOLERANCE:.0e} from ours)"
            tables.append(pivot(title, cells))
        return tables

    def bars(self, rows: Sequence[Row]) -> list[Bar]:
        bars = []
        for mode, wanted in BARS.items():
            here = [row for row in rows if f" {mode}, " in row["case"]]
            for what, some in (
                ("TorchJD", [row for row in here if row["peer_name"].startswith("TorchJD")]),
                ("the fastest peer that solves the problem", _fastest(here)),
            ):
                if some:
                    least = min(some, key=lambda row: row["ratio"])
                    met = sum(row["ratio"] >= wanted for row in some)
                    middle = statistics.median(row["ratio"] for row in some)
                    text = f"{mode}, at least {wanted:g} times faster than {what}: {met} of {len(some)} cases, "
                    text += f"median {middle:.1f}, least {least['ratio']:.2f} ({least['case']})"
                    bars.append(Bar(text, met == len(some)))
        return bars


def _solvers(options: BenchScope) -> list[str]:
    return chosen("strategies", options.strategies, list(OURS), ("mgda", "dualproj") if options.quick else list(OURS))


def _gramians(size: int) -> Tensor:
    """(64, K, K) of random gradients with a common part, norms within a factor of a few."""
    generator = torch.Generator().manual_seed(size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64)

    rows = normal(size, 2 * size + 3) + 0.2 * normal(1, 2 * size + 3)
    rows = rows * (0.5 * normal(size, 1)).exp()
    return rows @ rows.mT


def _measure(name: str, size: int, rounds: int, options: BenchScope) -> Iterator[Row]:
    gramians = _gramians(size)
    here = gramians.to(options.device)
    ours = OURS[name]
    peers = {peer: make(size) for peer, make in peer_module("solvers").SOLVER_PEERS[name].items()}
    singles = range(2 if options.quick else SINGLES)

    def in_sequence(solve: Callable[[Tensor], Tensor], some: Tensor) -> Callable[[], object]:
        following = itertools.cycle(some[k] for k in singles)
        return lambda: solve(next(following))

    candidates = {SINGLE: in_sequence(ours, here), BATCHED: lambda: ours(here)}
    candidates |= {peer: in_sequence(solve, gramians) for peer, solve in peers.items()}
    turn = 0.0 if options.quick else 0.02
    seconds = in_turn(candidates, rounds, device=options.device, turn=turn)
    seconds[BATCHED] /= BATCH
    for peer, solve in peers.items():
        difference = max(_difference(ours(here[k]).cpu(), solve(gramians[k]), gramians[k]) for k in singles)
        for mode in BARS:
            # A peer has no way to solve several at once: 64 of them take it 64 times one.
            yield Row(
                case=f"{name} {mode}, K={size}",
                ours=seconds[mode],
                peer=seconds[peer],
                peer_name=peer,
                ratio=seconds[peer] / seconds[mode],
                difference=difference,
            )


def _difference(ours: Tensor, theirs: Tensor, gramian: Tensor) -> float:
    """Distance between the directions of the two updates, whose inner products G gives."""

    def unit(weights: Tensor) -> Tensor:
        return weights / (weights @ gramian @ weights).sqrt()

    apart = unit(ours) - unit(theirs.to(ours))
    return float((apart @ gramian @ apart).clamp(min=0).sqrt())


def _solved(row: Row) -> bool:
    difference = row.get("difference")
    return difference is not None and difference <= TOLERANCE


def _fastest(rows: Sequence[Row]) -> list[Row]:
    """For each case its hardest comparison."""
    hardest: dict[str, Row] = {}
    for row in rows:
        if _solved(row) and (row["case"] not in hardest or row["ratio"] < hardest[row["case"]]["ratio"]):
            hardest[row["case"]] = row
    return list(hardest.values())


def _marked(row: Row) -> str:
    return f"{row['ratio']:.{1 if row['ratio'] >= 0.95 else 2}f}" + ("" if _solved(row) else "*")
