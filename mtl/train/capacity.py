"""How many members a device's memory holds, measured on a few of them and extrapolated."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

import torch

_FEW = 2  # members of the smaller measurement; the larger has twice as many
_SPARE = 0.1  # of the room, for fragments and for what evaluations and exploits take on top


class Gauge(Protocol):
    """Reads the memory of a device."""

    def room(self) -> int:
        """Bytes that can be taken."""

    def peak(self, work: Callable[[], object]) -> int:
        """The most bytes that `work` takes at a time."""


class CudaGauge:
    """Memory of the present CUDA device as PyTorch allocates it.

    Args:
        share: of the whole memory, that this process may take.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share

    def room(self) -> int:
        """Bytes that are free or cached by this process, within its share."""
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        taken, kept = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        return int(min(free + kept - taken, self._share * total - taken))

    def peak(self, work: Callable[[], object]) -> int:
        """The most bytes that `work` takes at a time."""
        gc.collect()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def members_that_fit(train: Callable[[int], object], gauge: Gauge) -> int:
    """How many members can be trained at a time; 0 where there is no room for one.

    What members take is a straight line through two measurements; a tenth of the room is left free.

    Args:
        train: makes so many members, trains them for a step, evaluates and forgets them; raises
            `torch.OutOfMemoryError` where there is no room for that.
        gauge: of the device.
    """
    room = (1 - _SPARE) * gauge.room()
    measured: dict[int, int] = {}
    for count in (1, _FEW, 2 * _FEW):
        try:
            measured[count] = gauge.peak(lambda count=count: train(count))  # type: ignore[misc]
        except torch.OutOfMemoryError:
            return max(measured, default=0)
    few, more = measured[_FEW], measured[2 * _FEW]
    # One alone also warms up: libraries take their working space at the first call.
    each = (more - few) / _FEW if more > few else more / (2 * _FEW)
    fixed = max(0.0, more - 2 * _FEW * each)
    return max(int((room - fixed) / max(each, 1.0)), 0)
