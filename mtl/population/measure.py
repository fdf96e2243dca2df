"""The signals of `mtl.step.measure` for all members at once: the same measurements, with a leading member axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Measurement:
    """One step of N members with K tasks, P parameters of which D are shared, and how to read further batches.

    Attributes:
        rows: the parameters (N, P), a leaf of the losses' graph.
        dimension: D.
        losses: K of (N,) with their graph, kept for signals in `mtl.step.measure.KEEPS_GRAPH` only.
        gradients: (N, K, P) of this batch.
        current: gives the weights (N, K) that hold before this step's measurements.
        read: from the name of a closure and parameters (N, P) to the K losses (N,) of another batch at these.
        options: the strategy's own settings of a measurement, and `lookahead_lr`, (N, 1).
        count: notes backward passes made for each member, a number or (N,).
    """

    rows: Tensor
    dimension: int
    losses: Sequence[Tensor]
    gradients: Tensor
    current: Callable[[], Tensor]
    read: Callable[[str, Tensor], Sequence[Tensor]]
    options: Mapping[str, Any]
    count: Callable[[Any], None]

    def gradients_of(self, closure: str, at: Tensor) -> Tensor:
        """Task gradients (N, K, P) of another batch at parameters (N, P); zero for a task that it lacks."""
        leaf = at.detach().requires_grad_()
        losses = self.read(closure, leaf)
        known = torch.stack([loss.detach() for loss in losses], 1).isfinite()
        self.count(known.sum(1))
        rows = task_gradients(losses, leaf)
        return torch.where(known[:, :, None], rows, 0) if not bool(known.all()) else rows


def task_gradients(losses: Sequence[Tensor], rows: Tensor, *, retain_graph: bool = False) -> Tensor:
    """The gradient (N, K, P) of each of K losses (N,) by its member's parameters (N, P); K backward passes."""
    last = len(losses) - 1
    dtype = torch.promote_types(rows.dtype, torch.float32)
    each = []
    for k, loss in enumerate(losses):
        (gradient,) = torch.autograd.grad(
            loss.sum(), rows, retain_graph=retain_graph or k < last, allow_unused=True, materialize_grads=True
        )
        each.append(gradient.to(dtype))
    return torch.stack(each, 1)


def cross(step: Measurement) -> Tensor:
    """J' J''^T of two more training batches, (N, K, K)."""
    first, second = (step.gradients_of("fresh", step.rows)[:, :, : step.dimension] for _ in range(2))
    return first @ second.mT


def implicit(step: Measurement) -> Tensor:
    """J_val H^-1 J_train^T, (N, K, K); see `mtl.step.measure.implicit`."""
    lr, terms = step.options["neumann_lr"], step.options["neumann_terms"]
    total = (step.current().to(step.rows) * torch.stack(list(step.losses), 1)).sum()
    (first,) = torch.autograd.grad(total, step.rows, create_graph=True)
    step.count(1)

    def hessian(vector: Tensor) -> Tensor:
        if not first.requires_grad:  # every loss is linear
            return torch.zeros_like(vector)
        (product,) = torch.autograd.grad(
            first, step.rows, vector.to(first.dtype), retain_graph=True, materialize_grads=True
        )
        step.count(1)
        return product.to(vector.dtype)

    solved = step.gradients_of("validation", step.rows)
    for k in range(solved.shape[1]):
        term = solved[:, k].clone()
        for _ in range(terms):
            term = term - lr * hessian(term)
            solved[:, k] += term
    lr = lr[:, None] if isinstance(lr, Tensor) else lr
    return (lr * solved) @ step.gradients.mT


def align(step: Measurement) -> Tensor:
    """J_val J_train^T, (N, K, K), with J_val at the point that a plain gradient step of the weights leads to."""
    direction = (step.current().to(step.gradients)[:, None] @ step.gradients)[:, 0]
    ahead = step.rows.detach() - (step.options["lookahead_lr"] * direction).to(step.rows)
    return step.gradients_of("validation", ahead) @ step.gradients.mT


#: By name, in the order of `mtl.step.measure.MEASURERS`.
MEASURERS: Mapping[str, Callable[[Measurement], Tensor]] = {"cross": cross, "implicit": implicit, "align": align}
