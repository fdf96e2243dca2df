"""Measuring: what strategies read beyond losses and task gradients, each signal by one function of `MEASURERS`.

A measurer gets a `Probe`, which differentiates the losses of a step and of further batches, and returns its signal. The
balancer has a probe on lists of parameters (`mtl.step.probe`), a population one on a row of parameters a member
(`mtl.population.probe`): all shapes here have the leading axes of the probe, none or one of members. A new signal is a
line in `mtl.strategies.strategy.SIGNALS`, a function here and, where it reads other batches, a line in `CLOSURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from mtl.step.guard import combination
from mtl.strategies.strategy import Strategy

#: The arguments of a step that a signal needs besides the losses, each with what to give. A closure gives the losses of
#: a batch to a balancer, and the batch itself to a population.
CLOSURES: dict[str, dict[str, str]] = {
    "after": {"recompute": "lambda: {of}this_batch()"},
    "cross": {"fresh": "lambda: {of}another_training_batch()"},
    "align": {"validation": "lambda: {of}a_validation_batch()", "lookahead_lr": "lr"},
    "implicit": {"validation": "lambda: {of}a_validation_batch()"},
}


class Probe(Protocol):
    """A step with all its tasks, as measurers see it; K tasks, P parameters of which the first D are shared."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The strategy's settings of a measurement, `Strategy.measuring`: numbers, or (..., 1)."""

    @property
    def gradients(self) -> Tensor:
        """This batch's task gradients (..., K, P); for signals in `NEEDS_GRADIENTS` only."""

    def current(self) -> Tensor:
        """The weights (..., K) that hold before this step's measurements."""

    def gradients_of(self, closure: str, *, step: Tensor | None = None, shared: bool = False) -> Tensor:
        """Task gradients of another batch, zero for a task that the batch lacks.

        Args:
            closure: the name of the caller's closure that reads it.
            step: a direction (..., P); parameters are first moved against it, by the learning rate times as far.
            shared: on the shared parameters only, (..., K, D) instead of (..., K, P).
        """

    def hessian(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """The product of the Hessian of the losses' sum under weights (..., K) with a vector (..., P).

        The graph of the losses is still there for signals in `KEEPS_GRAPH` only.
        """


def cross(probe: Probe) -> Tensor:
    """J' J''^T of two more training batches: with the step's own, three independent ones."""
    return probe.gradients_of("fresh", shared=True) @ probe.gradients_of("fresh", shared=True).mT


def implicit(probe: Probe) -> Tensor:
    """J_val H^-1 J_train^T for the Hessian H of the weighted training loss, by a Neumann series.

    H^-1 is `lr * sum_{s=0..terms} (I - lr H)^s` (Lorraine et al. 2020, algorithm 3), whose products with a vector need
    no Hessian: one backward pass through the gradient's own graph each.
    """
    lr, terms = probe.options["neumann_lr"], probe.options["neumann_terms"]
    product = probe.hessian(probe.current())
    solved = probe.gradients_of("validation")
    for k in range(solved.shape[-2]):
        term = solved[..., k, :].clone()
        for _ in range(terms):
            term = term - lr * product(term)
            solved[..., k, :] += term
    return ((lr[..., None] if isinstance(lr, Tensor) else lr) * solved) @ probe.gradients.mT


def align(probe: Probe) -> Tensor:
    """J_val J_train^T, with J_val at the point that a plain gradient step of the current weights leads to."""
    gradients = probe.gradients
    direction = combination(probe.current().to(gradients.dtype), gradients)
    return probe.gradients_of("validation", step=direction) @ gradients.mT


#: Signals by name, in the order of measuring: a lookahead moves parameters, after which a graph is no longer usable.
MEASURERS: dict[str, Callable[[Probe], Tensor]] = {"cross": cross, "implicit": implicit, "align": align}

#: Signals that need the gradients of this batch, and those that need its graph after that.
NEEDS_GRADIENTS = frozenset({"gramian", "jacobian", "align", "implicit"})
KEEPS_GRAPH = frozenset({"implicit"})


def measured(probe: Probe, name: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """One of the signals that `MEASURERS` measure; its `current` may read those that come before it there.

    Args:
        probe: the step.
        name: of the signal.
        like: losses (..., K), for the dtype.

    Returns:
        The signal (..., K, K), zero where an entry is not finite; and whether (...) some entry was not, which counts as
        `nonfinite_signal`.
    """
    found = MEASURERS[name](probe).detach()
    finite = found.isfinite()
    return torch.where(finite, found, 0).to(like.dtype), ~finite.flatten(-2).all(-1)


def refuse_missing(
    strategy: Strategy, needs: frozenset[str], given: Mapping[str, Any], call: str, of: str = ""
) -> None:
    """Raise `ValueError` if a step lacks a closure, or a number, that a measurement needs.

    Args:
        strategy: what it is for.
        needs: the signals that it will read.
        given: what the caller of the step can give, by name; None where it is not given.
        call: the call, as far as it is written out already.
        of: what closures give of a batch; `losses_of_` where it is not the batch itself.
    """
    if needs.isdisjoint(CLOSURES):
        return
    wanted = {name: text for signal, asked in CLOSURES.items() if signal in needs for name, text in asked.items()}
    missing = [f"{name}={text.format(of=of)}" for name, text in wanted.items() if name in given and given[name] is None]
    if missing:
        read = ", ".join(sorted(needs & CLOSURES.keys()))
        raise ValueError(f"{strategy} reads {read}: call {call}, {', '.join(missing)})")
