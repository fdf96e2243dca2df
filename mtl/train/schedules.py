"""Schedules of the learning rate: what it is multiplied with at a step of a run of known length.

A schedule is a pure function of the step and the length, so that a run that goes on from a checkpoint, or a member that
takes over another, needs no state of it. `plateau` alone also counts how often it has fallen, which is in the state of
a run. Those that `torch.optim.lr_scheduler` has are equal to it.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mtl.hyperparameters import hyper, read_unit, validate

_ROUNDING = 1e-9  # 0.6 / 0.2 is a little less than 3


@dataclass(frozen=True)
class Schedule(ABC):
    """The factor of the learning rate over a run."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        validate(self, self.name)

    @property
    def bears(self) -> int | None:
        """Evaluations without a better one that it bears before it falls; None where it looks at no evaluation."""
        return None

    def fallen(self, falls: int) -> float:  # noqa: ARG002
        """What a schedule that looks at evaluations multiplies with after so many falls."""
        return 1.0

    @abstractmethod
    def at(self, step: int, steps: int) -> float:
        """The factor at `step`, from 0, of `steps`."""

    @staticmethod
    def _done(step: int, steps: int) -> float:
        """The share of the run that is over."""
        return min(1.0, step / steps)


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """The learning rate itself."""

    name: ClassVar[str] = "constant"

    def at(self, step: int, steps: int) -> float:  # noqa: ARG002
        return 1.0


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Half a period of the cosine, to zero (`CosineAnnealingLR`)."""

    name: ClassVar[str] = "cosine"

    def at(self, step: int, steps: int) -> float:
        return (1 + math.cos(math.pi * self._done(step, steps))) / 2


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """A straight line to zero (`LinearLR` with `start_factor=1`, `end_factor=0`)."""

    name: ClassVar[str] = "linear"

    def at(self, step: int, steps: int) -> float:
        return 1 - self._done(step, steps)


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """Multiplied by `factor` whenever a share `every` of the run is over (`StepLR`)."""

    name: ClassVar[str] = "step"
    every: float = hyper(0.3, 0.001, 1.0, doc="share of the run between two falls")
    factor: float = hyper(0.1, 0.0, 1.0, doc="what the learning rate is multiplied with at each")

    def at(self, step: int, steps: int) -> float:
        return float(self.factor ** math.floor(self._done(step, steps) / self.every + _ROUNDING))


@dataclass(frozen=True)
class ExponentialSchedule(Schedule):
    """Multiplied by the same number at every step, so that it ends at `final` (`ExponentialLR`)."""

    name: ClassVar[str] = "exponential"
    final: float = hyper(0.01, 1e-12, 1.0, doc="share of the learning rate at the end")

    def at(self, step: int, steps: int) -> float:
        return float(self.final ** self._done(step, steps))


@dataclass(frozen=True)
class PolynomialSchedule(Schedule):
    """A power of the share that is left (`PolynomialLR`); `power=1` is `linear`."""

    name: ClassVar[str] = "polynomial"
    power: float = hyper(1.0, 0.0, doc="of the share of the run that is left")

    def at(self, step: int, steps: int) -> float:
        return float((1 - self._done(step, steps)) ** self.power)


@dataclass(frozen=True)
class OneCycleSchedule(Schedule):
    """Up to the learning rate and down to nearly zero, both along a cosine (`OneCycleLR`; Smith & Topin 2018).

    Momentum is left as it is.
    """

    name: ClassVar[str] = "one-cycle"
    pct_start: float = hyper(0.3, 0.0, 1.0, doc="share of the run in which the learning rate rises")
    div_factor: float = hyper(25.0, 1.0, doc="the learning rate begins at this part of its value")
    final_div_factor: float = hyper(1e4, 1.0, doc="and ends at this part of where it began")

    def at(self, step: int, steps: int) -> float:
        # As in torch, the last step of a run of T is T - 1, and that of the rise is `pct_start` of T less 1.
        last = steps - 1
        step, peak, begin = min(step, last), self.pct_start * steps - 1, 1 / self.div_factor
        if step < peak:
            return _between(begin, 1.0, step / peak)
        return _between(1.0, begin / self.final_div_factor, (step - peak) / (last - peak) if last > peak else 0.0)


@dataclass(frozen=True)
class PlateauSchedule(Schedule):
    """Multiplied by `factor` when the validation selection does not get better (`ReduceLROnPlateau`, threshold 0)."""

    name: ClassVar[str] = "plateau"
    factor: float = hyper(0.1, 0.0, 1.0, doc="what the learning rate is multiplied with")
    patience: int = hyper(3, 0, doc="evaluations without a better one that it bears")

    @property
    def bears(self) -> int | None:
        return self.patience

    def fallen(self, falls: int) -> float:
        return float(self.factor**falls)

    def at(self, step: int, steps: int) -> float:  # noqa: ARG002
        return 1.0


def _between(begin: float, end: float, share: float) -> float:
    """Along half a period of the cosine."""
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))


SCHEDULES: Mapping[str, type[Schedule]] = {
    cls.name: cls
    for cls in (
        ConstantSchedule,
        CosineSchedule,
        LinearSchedule,
        StepSchedule,
        ExponentialSchedule,
        PolynomialSchedule,
        OneCycleSchedule,
        PlateauSchedule,
    )
}


@functools.cache  # asked at every step of every member
def read_schedule(text: str) -> Schedule:
    """The schedule that `NAME:KEY=VALUE,KEY=VALUE` stands for.

    Raises:
        ValueError: an unknown name or key, with the nearest known ones; a value outside its range.
    """
    cls, values = read_unit(text, SCHEDULES, "schedule")
    return cls(**values)
