"""What torch keeps for the whole process, lent to a run and put back: its generators and its number of threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.reading import derived_seed


class Randomness:
    """The random numbers of one run, which it draws from torch's global generators as if it were alone.

    Args:
        device: of the run; its generator is one of them, beside that of the CPU.
        seed: of both.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()
            number = torch.cuda.current_device() if device.index is None else device.index
            self._generators.append(torch.cuda.default_generators[number])
        fresh = [torch.Generator(generator.device).manual_seed(seed) for generator in self._generators]
        self._states = [generator.get_state() for generator in fresh]

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Inside the block the global generators are this run's; after it they are as they were before."""
        before = _exchanged(self._generators, self._states)
        try:
            yield
        finally:
            self._states = _exchanged(self._generators, before)

    def state_dict(self) -> dict[str, Any]:
        """Where the run is in its random numbers."""
        return {"cpu": self._states[0], "device": self._states[1:]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; on a device of another kind its generator stays at the start of its seed."""
        states = [saved["cpu"].cpu(), *(state.cpu() for state in saved["device"])]
        self._states = [*states[: len(self._states)], *self._states[len(states) :]]


@contextlib.contextmanager
def seeded(device: torch.device, *entropy: int) -> Iterator[None]:
    """Inside the block torch's global generators are at the start of a seed; after it they are as they were before."""
    with Randomness(device, derived_seed(*entropy)).drawing():
        yield


def _exchanged(generators: list[torch.Generator], states: list[Tensor]) -> list[Tensor]:
    """Put generators into `states`; returns those that they were in."""
    before = [generator.get_state() for generator in generators]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
    return before


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Tensor operations on the CPU take so many threads inside the block, and as many as before after it."""
    before = torch.get_num_threads()
    if before != number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if before != number:
            torch.set_num_threads(before)
