"""`mtl bench search --engine ray`: what Ray adds to a search on one machine, and what a second shard brings.

The same search is carried out by engine `population`, by engine `ray` with one shard and with two, in turn, each as a
fresh process that trains with one thread a shard. What happens once (interpreters, imports, starting Ray and the
processes, loading data in them, ending all of it) is timed apart from what happens at each segment, inside the process:
a difference of totals would be lost in the noise of minutes of training.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NotRequired, cast

from mtl.bench.bench import Bar, Bench, BenchScope, BenchTable, Row
from mtl.bench.search_problem import Size
from mtl.extras import install

_MOST_FIXED = 20.0  # seconds
_MOST_SHARE = 0.10  # of a segment
_LEAST_SPEEDUP = 1.6

_POPULATION, _ONE, _TWO = "engine population", "engine ray, 1 shard", "engine ray, 2 shards"
_SHARDS = {_POPULATION: 0, _ONE: 1, _TWO: 2}
#: By whether it is quick. A segment takes seconds, and the arithmetic of a step outweighs the calls that start it:
#: those do not become fewer when a shard has half the members.
_SIZES = {True: Size(4, 10, 5, ""), False: Size(64, 300, 60, "", "mlp:width=128,depth=2", 256)}
_FIXED, _SEGMENT = "start and end", "a segment"


class EngineRow(Row):
    """`ours` and `peer` are medians in seconds; their member-steps per second where they train."""

    rates: NotRequired[tuple[float, float]]


@dataclass(frozen=True)
class _SearchTimes:
    """Seconds of one search: before the first segment and after the last, and of each segment."""

    fixed: float
    segments: Sequence[float]


class EnginesBench(Bench):
    """Engine `ray` against engine `population`, and two shards against one."""

    def check(self, options: BenchScope) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ValueError(f"--engine ray needs Ray, which is not installed: {install('ray')}")
        if options.models is not None or options.strategies is not None:
            raise ValueError("--models, --strategies: the bench of the search has one model and one strategy")

    def run(self, options: BenchScope) -> Iterator[Row]:
        size = _SIZES[options.quick]
        found: dict[str, list[_SearchTimes]] = {side: [] for side in _SHARDS}
        for number in range(options.rounds or (1 if options.quick else 3)):
            for side in list(found)[:: -1 if number % 2 else 1]:
                found[side].append(_search(size, _SHARDS[side]))
        fixed = {side: statistics.median(each.fixed for each in some) for side, some in found.items()}
        segment = {
            side: statistics.median(itertools.chain.from_iterable(each.segments for each in some))
            for side, some in found.items()
        }
        work = size.members * size.interval
        trained = f"{_SEGMENT} of {size.members} members x {size.interval} steps"
        yield _row(f"{_FIXED}, 1 shard", fixed[_ONE], fixed[_POPULATION], _POPULATION)
        yield _row(f"{trained}, 1 shard", segment[_ONE], segment[_POPULATION], _POPULATION, work)
        yield _row(f"{trained}, 2 shards", segment[_TWO], segment[_ONE], _ONE, work)

    def tables(self, rows: Sequence[Row]) -> list[BenchTable]:
        lines = []
        for row in rows:
            rates = row.get("rates")
            steps = [f"{rate:.0f}" for rate in cast(tuple[float, float], rates)] if rates else ["", ""]
            lines.append([row["case"], f"{row['ours']:.2f}", row["peer_name"], f"{row['peer']:.2f}", *steps])
        heads = ["", "ours, s", "peer", "peer, s", "ours, member-steps/s", "peer, member-steps/s"]
        return [BenchTable("Seconds of engine ray", heads, lines)]

    def bars(self, rows: Sequence[Row]) -> list[Bar]:
        found = []
        for row in rows:
            if row["case"].startswith(_FIXED):
                more = row["ours"] - row["peer"]
                words = f"engine ray takes at most {_MOST_FIXED:g} s more to start and end: {more:.1f} s"
                found.append(Bar(words, more <= _MOST_FIXED))
            elif row["peer_name"] == _POPULATION:
                share = row["ours"] / row["peer"] - 1
                words = f"at most {_MOST_SHARE:.0%} more for a segment: {share:+.1%}"
                found.append(Bar(words, share <= _MOST_SHARE))
            else:
                words = f"two shards make at least {_LEAST_SPEEDUP:g}x the member-steps of one: {row['ratio']:.2f}x"
                found.append(Bar(words, row["ratio"] >= _LEAST_SPEEDUP))
        return found


def _row(case: str, ours: float, peer: float, peer_name: str, work: int | None = None) -> Row:
    row = EngineRow(case=case, ours=ours, peer=peer, peer_name=peer_name, ratio=peer / ours)
    if work is not None:
        row["rates"] = (work / ours, work / peer)
    return row


def _search(size: Size, shards: int) -> _SearchTimes:
    """Carry out one search in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="mtl-") as folder:
        placed = replace(size, folder=str(Path(folder) / "run"))
        command = [sys.executable, "-m", "mtl.bench.engines_side", placed.text(), str(shards)]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
        ended = time.monotonic()
    if done.returncode != 0:
        raise RuntimeError(f"the search with {shards} shards failed: {done.stderr.strip().splitlines()[-1:]}")
    times = json.loads(done.stdout.splitlines()[-1])
    segments = [after - before for before, after in itertools.pairwise([times["ready"], *times["segments"]])]
    return _SearchTimes(times["ready"] - started + ended - times["segments"][-1], segments)
