"""Benches of whole runs: a population against single runs, and a search against Ray Tune."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from mtl.bench import population, search
from mtl.bench.bench import Bar, Bench, BenchScope, BenchTable, Row, chosen
from mtl.bench.peers import check_peers_are_here
from mtl.extras import install

_SEARCH_BAR = 20.0


class PopulationBench(Bench):
    """A population of 64 members against 64 single runs, and the cost of a member as their number grows."""

    def check(self, options: BenchScope) -> None:
        if options.models is not None:
            raise ValueError("--models: the bench of the population has one model")
        chosen("strategies", options.strategies, population.STRATEGIES, population.STRATEGIES)

    def run(self, options: BenchScope) -> Iterator[Row]:
        size: dict[str, Any] = {"members": 4, "steps": 5, "sizes": (1, 4)} if options.quick else {}
        rounds = options.rounds or (1 if options.quick else 5)
        strategies = options.strategies or population.STRATEGIES
        yield from _rows(population.run(rounds=rounds, strategies=strategies, device=options.device, **size))

    def tables(self, rows: Sequence[Row]) -> list[BenchTable]:
        curve = [row for row in rows if "bytes_a_member" in row]
        whole = [row for row in rows if "bytes_a_member" not in row]
        return [
            _table("Seconds of a whole population, and of its runs one after another", whole, []),
            _table("Seconds and memory a member by the number of members", curve, ["KiB a member"]),
        ]

    def bars(self, rows: Sequence[Row]) -> list[Bar]:
        return [Bar(*population.verdict(cast(Sequence[Mapping[str, Any]], rows)))]


class SearchBench(Bench):
    """Population-based training as one program against Ray Tune, whose processes are reused or are one a member."""

    def check(self, options: BenchScope) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ValueError(f"this bench compares with Ray Tune, not installed: {install('ray')}")
        if options.models is not None or options.strategies is not None:
            raise ValueError("--models, --strategies: the bench of the search has one model and one strategy")

    def check_peers(self) -> None:
        check_peers_are_here()

    def run(self, options: BenchScope) -> Iterator[Row]:
        yield from _rows(search.run(options.quick, options.rounds or 1))

    def tables(self, rows: Sequence[Row]) -> list[BenchTable]:
        lines = [
            [row["case"], f"{row['ours']:.3g}", *(_bound(row) + f"{row[key]:.3g}" for key in ("peer", "ratio"))]
            for row in cast(Sequence[Any], rows)
        ]
        name = rows[0]["peer_name"] if rows else "peer"
        return [BenchTable("Seconds of a whole search, start-up included", ["", "ours", name, "ratio"], lines)]

    def bars(self, rows: Sequence[Row]) -> list[Bar]:
        return [
            Bar(
                f"at least {_SEARCH_BAR:g}x faster than {row['peer_name']}, {row['case']}: "
                f"{_bound(row)}{row['ratio']:.1f}x",
                row["ratio"] >= _SEARCH_BAR,
            )
            for row in rows
        ]


def _bound(row: Row) -> str:
    return "" if cast(Any, row)["finished"] else "> "


def _rows(found: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for row in found:
        yield cast(Row, dict(row))


def _table(title: str, rows: Sequence[Row], extra: list[str]) -> BenchTable:
    lines = []
    for row in rows:
        line = [row["case"], f"{row['ours']:.4g}", f"{row['peer']:.4g}", f"{row['ratio']:.1f}"]
        if extra:
            line.append(f"{cast(Any, row)['bytes_a_member'] / 1024:.0f}")
        lines.append(line)
    return BenchTable(title, ["", "ours", rows[0]["peer_name"] if rows else "peer", "ratio", *extra], lines)
