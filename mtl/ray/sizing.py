"""Into how many shards the members are divided, so that devices are full and none runs out of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How members are spread.

    Attributes:
        members: the number of members.
        devices: the number of processes that train, each on a device or on a part of one.
        shards: the number of shards.
        fits: the number of members that a process has memory for at a time; None for no limit.
    """

    members: int
    devices: int
    shards: int
    fits: int | None

    @property
    def size(self) -> int:
        """The number of members of the largest shard."""
        return math.ceil(self.members / self.shards)

    @property
    def in_turns(self) -> bool:
        """Whether a process has more shards than it can hold at a time, so that some of them wait."""
        return self.fits is not None and self.size * math.ceil(self.shards / self.devices) > self.fits


def lay_out(members: int, devices: int, fits: int | None = None, wanted: int | None = None) -> Layout:
    """Divide members into shards: one for each device or, where these cannot hold all members, the same number for
    each.

    Args:
        members: the number of members, at least one.
        devices: the number of processes that train, at least one.
        fits: the number of members that a process has memory for at a time; None for no limit.
        wanted: the number of shards that the user asks for.

    Raises:
        ValueError: no member fits on a device, or the shards that the user asks for are too large.
    """
    if fits == 0:
        raise ValueError(
            "a GPU has no memory for one member: give a smaller --batch-size or --model, or a larger --gpus-per-shard"
        )
    turns = 1 if fits is None else math.ceil(members / (fits * devices))
    layout = Layout(members, devices, wanted if wanted is not None else turns * devices, fits)
    if fits is not None and layout.size > fits:
        raise ValueError(
            f"--shards {layout.shards}: shards of {layout.size} members, of which a GPU holds {fits}; "
            f"give at least {math.ceil(members / fits)}, or fewer --members"
        )
    return layout


def describe(layout: Layout, addresses: list[str], *, on_gpu: bool) -> str:
    """A line for the user: how many shards, on which nodes, and whether they take turns."""
    text = f"{_counted(layout.shards, 'shard')} on {_counted(len(addresses), 'node')} ({', '.join(addresses)})"
    if on_gpu:
        text += f", {layout.size} members each at most, by {_counted(layout.devices, 'process', 'processes')} on GPUs"
    if layout.in_turns:
        text += (
            f"; a process has memory for {layout.fits} members at a time and trains its shards in turns: "
            "more GPUs or fewer --members would be faster"
        )
    return text


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
