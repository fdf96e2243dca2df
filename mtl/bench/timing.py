"""Timing several ways of doing the same, in turn, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

_WARM_UP = 3
#: Seconds of a contender's turn: long beside the clock's resolution, short beside drifts of the machine.
TURN = 0.04


def in_turn(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device | str = "cpu",
    turn: float = TURN,
) -> dict[str, float]:
    """Seconds a call of each contender: the median over `rounds` turns.

    In each round everyone has a turn, so that whatever else slows the machine slows all of them. A turn is as many
    calls as fill `turn` seconds. What a contender does once is done in calls that do not count.
    """
    device = torch.device(device)
    calls = {name: _calls_a_turn(work, device, turn) for name, work in contenders.items()}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            taken[name].append(_seconds_a_call(work, calls[name], device))
    return {name: statistics.median(times) for name, times in taken.items()}


def _calls_a_turn(work: Callable[[], object], device: torch.device, turn: float) -> int:
    for _ in range(_WARM_UP):
        seconds = _seconds_a_call(work, 1, device)
    return max(1, round(turn / seconds))


def _seconds_a_call(work: Callable[[], object], calls: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / calls
