"""Methods of the library TorchJD (the extra `peers`) as strategies."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.strategies.strategy import Signals, SizedStrategy, Strategy

_READS = ("gramian", "jacobian", "cross")


def from_torchjd(method: Callable[[Tensor], Tensor], reads: str | None = None) -> Strategy:
    """A weighting or an aggregator of TorchJD as a strategy: `mtl.Balancer(from_torchjd(UPGrad()), shared=...)`.

    Weightings, and aggregators that hold one, give weights from the Gramian or the Jacobian. Other aggregators give the
    update itself, which then stands in for the gradients of the shared parameters; heads get their own loss's.

    Such a strategy is the object that it was given: no spec names it, it runs as TorchJD wrote it (often on the CPU,
    with random numbers from torch's global generator), it does not work under `torch.func.vmap`, and what a stateful
    method remembers is in the object, so that a checkpoint has to hold `method.state_dict()` beside the balancer's.

    Args:
        method: a weighting or an aggregator; anything that is called alike will do.
        reads: what a weighting is called with, `gramian`, `jacobian` or `cross` (the product of two further batches'
            gradients, for SDMGrad and MoDo); by default what the annotation of its `forward` says.

    Raises:
        ValueError: `method` is not such an object, or what it reads cannot be told.
    """
    if reads is not None and reads not in _READS:
        raise ValueError(f"reads={reads!r} must be one of {', '.join(_READS)}")
    if isinstance(method, type) or not callable(method):
        raise ValueError(f"{method!r} is not a weighting or an aggregator of TorchJD: give an instance of one")
    bases = {base.__name__ for base in type(method).__mro__}
    if "GramianWeightedAggregator" in bases:
        return TorchJDWeighting(method.gramian_weighting, reads or "gramian")  # type: ignore[attr-defined]
    if "WeightedAggregator" in bases:
        return TorchJDWeighting(method.weighting, reads or "jacobian")  # type: ignore[attr-defined]
    if "Aggregator" in bases:
        return TorchJDAggregator(method)
    found = reads or _annotation(method)
    if found is None:
        raise ValueError(f"what {type(method).__name__} reads cannot be told: give reads={' or '.join(_READS)}")
    return TorchJDWeighting(method, found)


def _annotation(method: Any) -> str | None:
    """The signal that the first argument of `forward` is annotated as."""
    parameters = list(inspect.signature(getattr(method, "forward", method)).parameters.values())
    kind = str(parameters[0].annotation) if parameters else ""
    if "PSDMatrix" in kind:
        return "gramian"
    return "jacobian" if "Matrix" in kind else None


@dataclass(frozen=True)
class TorchJDWeighting(Strategy):
    """The weights that `method` gives for one matrix."""

    name: ClassVar[str] = "torchjd"
    paper: ClassVar[str] = "Quinton & Rey, Jacobian Descent for Multi-Objective Optimization, 2024"
    vmappable: ClassVar[bool] = False

    method: Callable[[Tensor], Tensor]
    reads: str

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"losses", self.reads})

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        return _called(self.method, signals[self.reads]), state

    def __str__(self) -> str:
        return f"torchjd({self.method})"


class TorchJDState(NamedTuple):
    """The update of the last step (D,)."""

    update: Tensor


@dataclass(frozen=True)
class TorchJDAggregator(SizedStrategy):
    """The update that `method` gives for the Jacobian, as K gradients of a K-th of it with weights of one."""

    name: ClassVar[str] = "torchjd"
    paper: ClassVar[str] = "Quinton & Rey, Jacobian Descent for Multi-Objective Optimization, 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "jacobian"})
    tracking: ClassVar[bool] = True
    vmappable: ClassVar[bool] = False

    method: Callable[[Tensor], Tensor]

    def init_sized(self, losses: Tensor, dimension: int) -> TorchJDState:
        return TorchJDState(losses.new_zeros(dimension))

    def __call__(self, state: TorchJDState, signals: Signals) -> tuple[Tensor, TorchJDState]:
        update = _called(self.method, signals["jacobian"]).to(state.update.dtype)
        return torch.ones_like(signals["losses"]), TorchJDState(update)

    def gradients(self, state: TorchJDState, jacobian: Tensor) -> Tensor:
        return (state.update / len(jacobian)).expand_as(jacobian)

    def __str__(self) -> str:
        return f"torchjd({self.method})"


def _called(method: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    if torch._C._functorch.is_batchedtensor(matrix):
        raise RuntimeError(f"TorchJD's {type(method).__name__} does not work under vmap: train its members in a loop")
    return method(matrix).detach().to(matrix)
