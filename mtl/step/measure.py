"""Measuring: what strategies read beyond losses and task gradients, each signal by one function of `MEASURERS`.

A measurer gets a `Measurement`, the step as far as it has been measured with the closures that the caller of `backward`
gave, and returns its signal. A new signal is a line in `mtl.strategies.strategy.SIGNALS`, a function here and, where it
reads other batches, a line in `CLOSURES`; neither balancer nor trainer changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtl.gradients.graph import Output, jacobian, shaped, size, task_gradients
from mtl.gradients.pieces import Average
from mtl.step.passes import frozen_statistics, lookahead

#: The arguments of `backward` that a signal needs besides the losses, each with what to give.
CLOSURES: dict[str, dict[str, str]] = {
    "after": {"recompute": "lambda: losses_of_this_batch()"},
    "cross": {"fresh": "lambda: losses_of_another_training_batch()"},
    "align": {"validation": "lambda: losses_of_a_validation_batch()", "lookahead_lr": "lr"},
    "implicit": {"validation": "lambda: losses_of_a_validation_batch()"},
}


@dataclass
class Measurement:
    """One step with all its tasks, and how to read further batches.

    Attributes:
        shared: the shared parameters, D numbers.
        heads: every other leaf of the losses.
        losses: the K losses with their graph, which is still there only for signals in `KEEPS_GRAPH`.
        gradients: this batch's task gradients on the shared parameters (K, D) and on the heads; for signals in
            `NEEDS_GRADIENTS` only.
        current: gives the weights (K,) that hold before this step's measurements.
        read: calls a closure of the caller by name; gives the finite losses with their graph, and their tasks.
        average: replaces tensors by their means over all processes, if there are several.
        options: the strategy's own settings of a measurement, `Strategy.measuring`, and `lookahead_lr`.
        passes: counts forward and backward passes.
    """

    shared: Sequence[Tensor]
    heads: Sequence[Tensor]
    losses: Sequence[Output]
    gradients: Sequence[Tensor]
    current: Callable[[], Tensor]
    read: Callable[[str], tuple[Sequence[Output], Sequence[int]]]
    average: Average | None
    options: Mapping[str, Any]
    passes: Counter[str]

    @property
    def parameters(self) -> list[Tensor]:
        """Everything that the losses train."""
        return [*self.shared, *self.heads]

    @property
    def train(self) -> Tensor:
        """(K, P) task gradients on all parameters."""
        return torch.cat(list(self.gradients), 1)

    def unflatten(self, flat: Tensor) -> list[Tensor]:
        """One piece of a (P,) vector for each parameter."""
        pieces = flat.split([size(parameter) for parameter in self.parameters])
        return [shaped(piece, parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]

    def product(self, rows: Tensor) -> Tensor:
        """Inner products (N, K) of rows (N, P) with this batch's gradients."""
        return rows @ self.train.T

    def gradients_of(self, closure: str, wanted: Sequence[Tensor]) -> Tensor:
        """Task gradients (K, size of wanted) of another batch, at the parameters as they stand; zero for a task that
        the batch lacks."""
        with frozen_statistics(), torch.enable_grad():
            losses, index = self.read(closure)
            gradients = task_gradients(losses, wanted)
        self.passes["forward"] += 1
        self.passes["backward"] += len(losses)
        present = iter(gradients)
        nothing = (None,) * len(wanted)
        rows = jacobian([next(present) if k in index else nothing for k in range(len(self.losses))], wanted)
        if self.average is not None:
            self.average([rows])
        return rows


def cross(step: Measurement) -> Tensor:
    """J' J''^T of two more training batches: with the step's own, three independent ones."""
    return step.gradients_of("fresh", step.shared) @ step.gradients_of("fresh", step.shared).T


def implicit(step: Measurement) -> Tensor:
    """J_val H^-1 J_train^T for the Hessian H of the weighted training loss, by a Neumann series.

    H^-1 is `lr * sum_{s=0..terms} (I - lr H)^s` (Lorraine et al. 2020, algorithm 3), whose products with a vector need
    no Hessian: one backward pass through the gradient's own graph each.
    """
    lr, terms = step.options["neumann_lr"], step.options["neumann_terms"]
    first = torch.autograd.grad(
        list(step.losses),  # type: ignore[arg-type]  # tensors and places in a graph may be mixed
        step.parameters,
        list(step.current().unbind()),
        create_graph=True,
        allow_unused=True,
    )
    step.passes["backward"] += 1
    curved = [index for index, gradient in enumerate(first) if gradient is not None and gradient.requires_grad]

    def hessian(vector: Tensor) -> Tensor:
        if not curved:  # every loss is linear
            return torch.zeros_like(vector)
        pieces = step.unflatten(vector)
        product = torch.autograd.grad(
            [first[index] for index in curved],
            step.parameters,
            [pieces[index].to(step.parameters[index].dtype) for index in curved],
            retain_graph=True,
            allow_unused=True,
        )
        step.passes["backward"] += 1
        return jacobian([product], step.parameters)[0]

    solved = step.gradients_of("validation", step.parameters)
    for k in range(len(solved)):
        term = solved[k].clone()
        for _ in range(terms):
            term = term - lr * hessian(term)
            solved[k] += term
    return step.product(lr * solved)


def align(step: Measurement) -> Tensor:
    """J_val J_train^T, with J_val at the point that a plain gradient step of the current weights leads to."""
    direction = step.current().to(step.train.dtype) @ step.train
    with lookahead(step.parameters, step.unflatten(direction), step.options["lookahead_lr"]):
        return step.product(step.gradients_of("validation", step.parameters))


#: Signals by name, in the order of measuring: a lookahead moves parameters, after which a graph is no longer usable.
MEASURERS: dict[str, Callable[[Measurement], Tensor]] = {"cross": cross, "implicit": implicit, "align": align}

#: Signals that need the gradients of this batch, and those that need its graph after that.
NEEDS_GRADIENTS = frozenset({"gramian", "jacobian", "align", "implicit"})
KEEPS_GRAPH = frozenset({"implicit"})
