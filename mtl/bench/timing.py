"""Timing candidates in turn, so that a machine that slows down slows all of them down."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from threadpoolctl import threadpool_limits


def in_turn(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    device: torch.device,
    turn: float = 0.01,
    limit: float = 4.0,
) -> dict[str, float]:
    """The time of one call of each candidate, in seconds: the median over rounds, in each of which every one has a
    turn.

    Args:
        candidates: what to call, by name. Each is called twice before timing starts, and once before each of its turns.
        rounds: turns of each. The order is reversed from round to round, so that nobody always follows the same one.
        device: waited for before a clock is read.
        turn: shortest time of a turn in seconds, in whole calls.
        limit: seconds after which a slow candidate has no further turn, once it has had three.
    """
    calls = {}
    for name, call in candidates.items():
        call()
        calls[name] = max(1, round(turn / max(_time(call, 1, device), 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    # NumPy and SciPy bring an OpenBLAS each, whose threads stay busy for milliseconds after a call: in another's turn.
    with _without_collection(), threadpool_limits(torch.get_num_threads(), user_api="blas"):
        for number in range(rounds):
            for name in list(candidates)[:: -1 if number % 2 else 1]:
                if len(samples[name]) < 3 or sum(samples[name]) * calls[name] < limit:
                    candidates[name]()  # not counted: it finds caches and free memory as another candidate left them
                    samples[name].append(_time(candidates[name], calls[name], device))
            gc.collect()
    return {name: statistics.median(values) for name, values in samples.items()}


def _time(call: Callable[[], object], calls: int, device: torch.device) -> float:
    now = clock(device)
    _synchronize(device)
    begin = now()
    for _ in range(calls):
        call()
    _synchronize(device)
    return (now() - begin) / calls


def clock(device: torch.device) -> Callable[[], float]:
    """What reads the time on a device.

    On one thread of a CPU it is the time that this process computed for. Other processes stretch that less than the
    time that passed.
    """
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Garbage is collected between rounds, not inside somebody's turn."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
