from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.hyperparameters import hyper
from mtl.strategies.combinators.wrapper import Wrapper, filled
from mtl.strategies.strategy import Signals, Strategy


class EveryState(NamedTuple):
    """The inner state, the weights being held, and the number of steps made."""

    inner: Any
    weights: Tensor
    step: Tensor


@dataclass(frozen=True)
class Every(Wrapper):
    """Update the inner strategy on steps 0, n, 2n, ... and hold its weights in between (Navon et al. 2022, section 5).

    Steps in between need nothing measured but the losses, so they cost no more than equal weighting. Around `mgda` this
    is PSMGD (Xiao et al., AAAI 2025).
    """

    name: ClassVar[str] = "every"
    n: int = hyper(10, 1, doc="steps from one update to the next")

    def needs_at(self, step: int) -> frozenset[str]:
        return self.inner.needs_at(step // self.n) if step % self.n == 0 else frozenset({"losses"})

    def suffices(self, names: Collection[str]) -> bool:
        return "losses" in names

    def init(self, losses: Tensor) -> EveryState:
        return EveryState(self.inner.init(losses), filled(losses, self.inner, None, 1.0), _zero(losses))

    def init_sized(self, losses: Tensor, dimension: int) -> EveryState:
        inner = self.inner.init_sized(losses, dimension)
        return EveryState(inner, filled(losses, self.inner, dimension, 1.0), _zero(losses))

    def __call__(self, state: EveryState, signals: Signals) -> tuple[Tensor, EveryState]:
        step = state.step + 1
        if not self.inner.suffices(signals):  # nothing was measured: the caller read `needs_at`
            return state.weights, state._replace(step=step)
        due = state.step % self.n == 0
        weights, inner = self.inner(state.inner, signals)
        weights = torch.where(due, weights, state.weights)
        inner = pytree.tree_map(lambda new, old: torch.where(due, new, old), inner, state.inner)
        return weights, EveryState(inner, weights, step)

    def gradients(self, state: EveryState, jacobian: Tensor) -> Tensor:
        due = (state.step - 1) % self.n == 0  # held weights apply to the gradients of their step
        return torch.where(due, self.inner.gradients(state.inner, jacobian), jacobian)

    def current(self, state: EveryState, signals: Signals) -> Tensor:
        if not self.inner.suffices({*signals, "align", "implicit"}):  # of its own are those read that come before them
            return state.weights
        return torch.where(state.step == 0, self.inner.current(state.inner, signals), state.weights)


def every(strategy: Strategy, n: int) -> Every:
    """`strategy` updated every n steps only."""
    return Every(strategy, n)


def _zero(like: Tensor) -> Tensor:
    return like.new_zeros((), dtype=torch.int64)
