"""One generator of random numbers a member, that a step can draw from and, when it fails, draw from again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Streams:
    """Generators on the CPU, one a member.

    Args:
        states: of `torch.Generator.get_state`.
    """

    def __init__(self, states: Sequence[Tensor]) -> None:
        self._generators: list[torch.Generator] = []
        for state in states:
            self._generators.append(torch.Generator())
            self._generators[-1].set_state(state.cpu())
        self._before: dict[int, Tensor] = {}

    @classmethod
    def seeded(cls, seeds: Sequence[int]) -> Streams:
        """Generators at the start of their seeds."""
        return cls([torch.Generator().manual_seed(seed).get_state() for seed in seeds])

    def select(self, members: Sequence[int]) -> Streams:
        """Copies of some members' generators."""
        return Streams([self._generators[member].get_state() for member in members])

    @classmethod
    def joined(cls, streams: Sequence[Streams]) -> Streams:
        """Copies of the generators of several."""
        return cls([state for each in streams for state in each.states()])

    def __getitem__(self, member: int) -> torch.Generator:
        generator = self._generators[member]
        self._before.setdefault(member, generator.get_state())
        return generator

    def __len__(self) -> int:
        return len(self._generators)

    def mark(self) -> None:
        """A step begins here."""
        self._before.clear()

    def rewind(self) -> None:
        """Back to the last `mark`."""
        for member, state in self._before.items():
            self._generators[member].set_state(state)
        self._before.clear()

    def states(self) -> list[Tensor]:
        """The state of each generator."""
        return [generator.get_state() for generator in self._generators]
