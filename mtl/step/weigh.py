"""Weighing: one step of a strategy, for a balancer's run and, mapped, for a population's members.

The rule stands in `weighed`: a step that is not whole, or that leads to weights that are not finite, leaves weights and
state as they were before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.strategies.combinators.normalize import sum_to_k
from mtl.strategies.strategy import Signals

#: From a strategy's state and signals to weights and the next state: a strategy itself, or several side by side.
StrategyStep = Callable[[Any, Signals], tuple[Tensor, Any]]


class Proposal(NamedTuple):
    """What a strategy makes of a step.

    Attributes:
        raw: the strategy's own weights.
        weights: these on the scale on which they are applied.
        state: the strategy's state after the step.
    """

    raw: Tensor
    weights: Tensor
    state: Any


def weighed(
    strategy: StrategyStep,
    state: Any,
    held: Tensor,
    signals: Signals,
    whole: Tensor | None,
    scale: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Any, Tensor]:
    """One step of a strategy: pure, without a look at any value, so that it maps over members and compiles.

    Args:
        strategy: makes the step.
        state: the strategy's, before the step.
        held: the weights applied before, on their scale.
        signals: what was measured.
        whole: () whether all that was measured is finite; None where the host knows that it is, and takes the result as
            a whole by `good` (see `kept`), which saves an operation for each tensor of the state.
        scale: brings weights to the scale on which they are applied.

    Returns:
        Weights and state that hold from now on, and `good` (): whether the new weights were finite. A step that was
        whole and not good counts as `nonfinite_weights`.
    """
    new = proposed(strategy, state, signals, scale)
    good = new.raw.isfinite().all()
    if whole is None:
        return new.weights, new.state, good
    weights, state = kept(good & whole, (new.weights, new.state), (held, state))
    return weights, state, good


def proposed(strategy: StrategyStep, state: Any, signals: Signals, scale: Callable[[Tensor], Tensor]) -> Proposal:
    """A step of a strategy, whatever comes of it."""
    raw, after = strategy(state, signals)
    return Proposal(raw, scale(raw).detach(), after)


def kept(taken: Tensor, new: Any, before: Any) -> Any:
    """A tree of tensors: the new ones where `taken` holds, else those before.

    Args:
        taken: () for one run, (N,) for members along the leading axis of each tensor.
        new: a tree of tensors.
        before: the same.
    """
    return pytree.tree_map(lambda one, other: torch.where(_along(taken, one), one, other), new, before)


def _along(taken: Tensor, values: Tensor) -> Tensor:
    return taken.view((*taken.shape, *[1] * (values.ndim - taken.ndim)))


def raw(weights: Tensor) -> Tensor:
    """The weights as the strategy has them: the scale `raw`."""
    return weights


def by_block(weights: Tensor) -> Tensor:
    """The scale `sum_to_k` for each block of weights (blocks, K)."""
    return torch.stack([sum_to_k(own) for own in weights])


def scale_of(name: str, blocks: int = 1) -> Callable[[Tensor], Tensor]:
    """The scale of that name, for weights (K,) or (K, D), or (blocks, K) where there are several blocks."""
    if name == "raw":
        return raw
    return by_block if blocks > 1 else sum_to_k


class Blockwise:
    """A strategy on several blocks of parameters, each with a Gramian and a state of its own; weights are (blocks, K).

    Args:
        strategy: that of each block.
    """

    def __init__(self, strategy: StrategyStep) -> None:
        self._strategy = strategy

    def __call__(self, states: Sequence[Any], signals: Signals) -> tuple[Tensor, tuple[Any, ...]]:
        """One step; the signal `gramian` is (blocks, K, K)."""
        gramians = signals["gramian"]
        each = [
            self._strategy(state, {**signals, "gramian": gramian})
            for state, gramian in zip(states, gramians, strict=True)
        ]
        return torch.stack([weights for weights, _ in each]), tuple(state for _, state in each)
