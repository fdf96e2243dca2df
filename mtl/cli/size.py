"""Looks before a large population is made whether memory can hold it, and says how long the making will take."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.search.cohort import MakeCohort
from mtl.train import Member

_MANY = 256  # members from which on it is looked
_FEW = 16  # members that are made to see; then twice as many
_MOST = 16_384  # beyond, the bookkeeping of members takes longer than their training
_LONG = 60.0  # seconds that are worth a word


def check_size(
    option: str,
    count: int,
    members: Iterable[Member],
    make_cohort: MakeCohort,
    device: torch.device,
    tell: Callable[[str], None],
) -> None:
    """Measure a few members and extrapolate.

    Args:
        option: that gives the number, for the message.
        count: members that will be trained side by side.
        members: those; the first few are made.
        make_cohort: makes them.
        device: where they will be.
        tell: told how long it will take, where that is long.

    Raises:
        ValueError: their state alone, without what a step takes on top, is larger than the memory that is free.
    """
    if count < _MANY:
        return
    if count > _MOST:
        raise ValueError(f"{option} {count}: one process trains at most {_MOST} side by side")
    sizes = (_FEW, _FEW, 2 * _FEW)  # the first also warms up
    first = list(itertools.islice(members, max(sizes)))
    _, (few, before), (more, after) = (_measured(first[:size], make_cohort) for size in sizes)
    need, free = count * (more - few) / _FEW, free_memory(device)
    if need > free:
        raise ValueError(
            f"{option} {count}: parameters and state of so many take {need / 2**30:.2g} GiB of memory, and "
            f"{free / 2**30:.2g} GiB is free"
        )
    if (seconds := count * (after - before) / _FEW) > _LONG:
        tell(f"making {count} members takes about {seconds / 60:.0f} minutes, before the first step")


def _measured(members: list[Member], make_cohort: MakeCohort) -> tuple[int, float]:
    """Bytes of their state, and seconds that making them takes."""
    started = time.perf_counter()
    cohort = make_cohort(members)
    seconds = time.perf_counter() - started
    return _bytes(cohort.state_dict()), seconds


def _bytes(tree: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))


def free_memory(device: torch.device) -> float:
    """Bytes that can still be taken."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # no Linux
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
