"""A population's probe of a step: gradients on a row of parameters a member, all members at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowProbe:
    """A step of N members, and how to read further batches; see `mtl.step.measure.Probe`.

    Attributes:
        rows: the parameters (N, P), a leaf of the losses' graph.
        dimension: D.
        losses: K of (N,) with their graph.
        gradients: (N, K, P) of this batch.
        weights: gives the weights (N, K) that hold before this step's measurements.
        read: from the name of a closure and parameters (N, P) to the K losses (N,) of another batch at these.
        options: the strategy's own settings of a measurement, numbers or (N, 1).
        lookahead_lr: how far a lookahead goes, (N, 1).
        count: notes backward passes made for each member, a number or (N,).
    """

    rows: Tensor
    dimension: int
    losses: Sequence[Tensor]
    gradients: Tensor
    weights: Callable[[], Tensor]
    read: Callable[[str, Tensor], Sequence[Tensor]]
    options: Mapping[str, Any]
    lookahead_lr: Tensor
    count: Callable[[Any], None]

    def current(self) -> Tensor:
        """(N, K)."""
        return self.weights()

    def gradients_of(self, closure: str, *, step: Tensor | None = None, shared: bool = False) -> Tensor:
        """(N, K, P) or (N, K, D), zero for a task that a member's batch lacks."""
        at = self.rows.detach()
        if step is not None:
            at = at - (self.lookahead_lr * step).to(at)
        leaf = at.detach().requires_grad_()
        losses = self.read(closure, leaf)
        known = torch.stack([loss.detach() for loss in losses], 1).isfinite()
        self.count(known.sum(1))
        rows = task_gradients(losses, leaf)
        rows = torch.where(known[:, :, None], rows, 0) if not bool(known.all()) else rows
        return rows[:, :, : self.dimension] if shared else rows

    def hessian(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """Products by one more backward pass each."""
        total = (weights.to(self.rows) * torch.stack(list(self.losses), 1)).sum()
        (first,) = torch.autograd.grad(total, self.rows, create_graph=True)
        self.count(1)

        def product(vector: Tensor) -> Tensor:
            if not first.requires_grad:  # every loss is linear
                return torch.zeros_like(vector)
            (found,) = torch.autograd.grad(
                first, self.rows, vector.to(first.dtype), retain_graph=True, materialize_grads=True
            )
            self.count(1)
            return found.to(vector.dtype)

        return product


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
