"""`mtl bench steps`: the time of a training step, against TorchJD, other ways of computing, and the least possible."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mtl.bench.bench import Bar, Bench, BenchScope, BenchTable, Row, chosen, pivot
from mtl.bench.models import MODELS, USUAL, StepProblem, make_problem
from mtl.bench.peers import peer_module
from mtl.bench.timing import in_turn
from mtl.bench.ways import GRAMIAN_SPECS, Step, equal_step, floor_step, our_step
from mtl.strategies import REGISTRY

PEER, EQUAL = "TorchJD", "equal weighting"
#: Updates further apart than this are reported.
TOLERANCE = 1e-4
LOSSES_ONLY = tuple(
    name
    for name, cls in REGISTRY.items()
    if isinstance(cls.needs, frozenset) and cls.needs <= {"losses", "noise", "epoch"}
)
#: What is known to keep the peer's update from ours.
_EXPLAINED = "TorchJD's mgda stops early, its nash stops at a residual of 1e-3, its cagrad's conic solver at about 1e-5"


class Steps(Bench):
    """One step of each strategy on each model."""

    peers = ("torchjd", "cvxpy", "quadprog", "qpsolvers")

    def check(self, options: BenchScope) -> None:
        _models(options)
        _strategies(options)

    def run(self, options: BenchScope) -> Iterator[Row]:
        rounds = options.rounds or (1 if options.quick else 15)
        for model in _models(options):
            yield from _measure(model, _strategies(options), rounds, options)

    def tables(self, rows: Sequence[Row]) -> list[BenchTable]:
        against = [row for row in rows if row["peer_name"] == PEER]
        other = [row for row in rows if row["peer_name"] not in (PEER, EQUAL)]
        simple = [row for row in rows if row["peer_name"] == EQUAL]
        tables = [
            (f"Times faster than {PEER}", {row["case"]: f"{row['ratio']:.2f}" for row in against}),
            ("Our step, ms", {row["case"]: f"{1e3 * row['ours']:.2f}" for row in against}),
            ("Our step over the floor's", {row["case"]: f"{row['ours'] / row['floor']:.2f}" for row in against}),
            ("Our step over equal weighting's", {row["case"]: f"{row['ours'] / row['equal']:.2f}" for row in against}),
            ("Times faster than other ways of computing", _with_peer(other)),
            ("Loss-only strategies: our step over equal weighting's", _inverse(simple)),
        ]
        return [pivot(title, cells) for title, cells in tables if cells]

    def bars(self, rows: Sequence[Row]) -> list[Bar]:
        bars = []
        against = [row for row in rows if row["peer_name"] == PEER]
        if against:
            ratios = [row["ratio"] for row in against]
            floors = [row["ours"] / row["floor"] for row in against]
            middle, least, most = statistics.median(ratios), min(ratios), max(floors)
            bars += [
                Bar(f"median over {PEER} at least 1.5: {middle:.2f}", middle >= 1.5),
                Bar(f"least over {PEER} at least 1.0: {least:.2f} ({_case(against, ratios, least)})", least >= 1),
                Bar(
                    f"at most 1.1 times the floor: {most:.2f} ({_case(against, floors, most)}), "
                    f"median {statistics.median(floors):.2f}",
                    most <= 1.1,
                ),
            ]
            far = [row for row in against if (row.get("difference") or 0.0) > TOLERANCE]
            named = "".join(f"; {row['case']} {row['difference']:.0e}" for row in far)
            bars.append(
                Bar(
                    f"updates as {PEER}'s to {TOLERANCE:.0e}: {len(against) - len(far)} of {len(against)}{named}"
                    + (f" ({_EXPLAINED})" if far else ""),
                    not far,
                )
            )
        simple = [row for row in rows if row["peer_name"] == EQUAL]
        if simple:
            costs = [row["ours"] / row["peer"] for row in simple]
            most = max(costs)
            bars.append(
                Bar(
                    f"loss-only strategies at most 1.05 times {EQUAL}: {most:.2f} ({_case(simple, costs, most)}), "
                    f"median {statistics.median(costs):.2f}",
                    most <= 1.05,
                )
            )
        return bars


def _models(options: BenchScope) -> list[str]:
    return chosen("models", options.models, list(MODELS), ("mlp-2", "cnn-3") if options.quick else USUAL)


def _strategies(options: BenchScope) -> list[str]:
    known = [*GRAMIAN_SPECS, *LOSSES_ONLY]
    return chosen("strategies", options.strategies, known, ("mgda", "uncertainty") if options.quick else known)


def _measure(model: str, strategies: Sequence[str], rounds: int, options: BenchScope) -> Iterator[Row]:
    problem = make_problem(model, options.device, torch.float32)
    candidates: dict[str, Step] = {
        "equal": equal_step(problem),
        "floor, batched": floor_step(problem, batched=True),
        "floor, loop": floor_step(problem, batched=False),
    }
    for name in strategies:
        for peer, way in _ways(name).items():
            candidates[f"{name}, {peer}"] = way(problem)
    seconds = in_turn(candidates, rounds, device=options.device, turn=0.0 if options.quick else 0.01)
    equal, floor = seconds["equal"], min(seconds["floor, batched"], seconds["floor, loop"])
    for name in strategies:
        ours = seconds[f"{name}, ours"]
        for peer in [EQUAL] if name in LOSSES_ONLY else [peer for peer in _ways(name) if peer != "ours"]:
            theirs = equal if peer == EQUAL else seconds[f"{name}, {peer}"]
            row = Row(case=f"{name}, {model}", ours=ours, peer=theirs, peer_name=peer, ratio=theirs / ours, equal=equal)
            if peer != EQUAL:
                row["floor"] = floor
                row["difference"] = _difference(model, name, peer, options.device)
            yield row


def _ways(name: str) -> dict[str, Callable[[StepProblem], Step]]:
    """Ours and, for a Gramian strategy, those of its peers."""
    if name in LOSSES_ONLY:
        return {"ours": lambda problem: our_step(problem, name)}
    peers = peer_module("steps")
    ways: dict[str, Callable[[StepProblem], Step]] = {
        "ours": lambda problem: our_step(problem, GRAMIAN_SPECS[name]),
        PEER: lambda problem: peers.torchjd_step(problem, name),
    }
    if name in peers.REFERENCES:
        peer, way = peers.REFERENCES[name]
        ways[peer] = way
    return ways


def _difference(model: str, name: str, peer: str, device: torch.device) -> float | None:
    """Distance between the directions of the first updates of the trunk, in float64; None where draws differ."""
    if name == "pcgrad" and MODELS[model][1] > 2:
        return None  # each draws the order of projections by itself

    def direction(way: Callable[[StepProblem], Step]) -> Tensor:
        problem = make_problem(model, device, torch.float64)
        way(problem)()
        flat = torch.cat([p.grad.flatten() for p in problem.trunk.parameters() if p.grad is not None])
        unit: Tensor = flat / flat.norm()
        return unit

    ways = _ways(name)
    return float((direction(ways["ours"]) - direction(ways[peer])).norm())


def _case(rows: Sequence[Row], values: Sequence[float], value: float) -> str:
    return rows[values.index(value)]["case"]


def _with_peer(rows: Sequence[Row]) -> dict[str, str]:
    named = {}
    for row in rows:
        strategy, model = row["case"].split(", ", 1)
        named[f"{strategy} ({row['peer_name'].replace(', ', ' with ')}), {model}"] = f"{row['ratio']:.1f}"
    return named


def _inverse(rows: Sequence[Row]) -> dict[str, str]:
    return {row["case"]: f"{1 / row['ratio']:.2f}" for row in rows}
