"""Random numbers within a model that are a function of its state: equal in a population, and after a resume."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Draws(nn.Module):
    """A stream of Gumbel noise; each call in training is the next draw.

    Whatever else reads a batch within a step, such as a lookahead, gets the step's draw and leaves the count as it was.

    Attributes:
        coming: whether the step's draw is still to come, see `coming`.
    """

    seed: Tensor
    number: Tensor
    coming: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**62, ()))
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))

    def forward(self, size: int) -> tuple[Tensor, Tensor]:
        """So many numbers of the standard Gumbel distribution, and how many draws there were before."""
        number = self.number.clone()
        self.number += 1
        return gumbel(self.seed, number, size), number

    def again(self, size: int) -> tuple[Tensor, Tensor]:
        """What the last call gave, for those who share its draw."""
        number = self.number.clone() if self.coming else self.number - 1
        return gumbel(self.seed, number, size), number

    def rewind(self) -> None:
        """The next call is the last one's draw once more."""
        if not self.coming:
            self.number -= 1


@contextlib.contextmanager
def coming(model: nn.Module) -> Iterator[None]:
    """Inside the block, which precedes the pass of a step, all streams of a model give the draw of that pass."""
    streams = [module for module in model.modules() if isinstance(module, Draws)]
    for stream in streams:
        stream.coming = True
    try:
        yield
    finally:
        for stream in streams:
            stream.coming = False


def _signed(number: int) -> int:
    """A number of 64 bits as torch has it."""
    return number - 2**64 if number >= 2**63 else number


_STEP, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def uniform(seed: Tensor, draw: Tensor, size: int) -> Tensor:
    """So many numbers in (0, 1), those of one draw after another: SplitMix64 (Steele et al., OOPSLA 2014).

    Args:
        seed: of the stream, a whole number ().
        draw: number of the draw, ().
        size: how many.

    Returns:
        (size,), of the default dtype.
    """
    place = draw * size + torch.arange(1, size + 1, device=seed.device)
    mixed = seed + place * _STEP
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    mixed = mixed ^ _shifted(mixed, 31)
    return (_shifted(mixed, 40).to(torch.get_default_dtype()) + 0.5) / 2**24


def _shifted(number: Tensor, by: int) -> Tensor:
    """Bits to the right, zeros from the left."""
    shifted: Tensor = (number >> by) & (2 ** (64 - by) - 1)
    return shifted


def gumbel(seed: Tensor, draw: Tensor, size: int) -> Tensor:
    """So many numbers of the standard Gumbel distribution, (size,)."""
    return -torch.log(-torch.log(uniform(seed, draw, size)))
