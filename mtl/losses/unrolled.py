"""The gradient of a loss after one step of a model, by the weights of the loss that the step goes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def unrolled_gradient(
    weights: Tensor,
    parameters: Sequence[Tensor],
    learned: Callable[[Sequence[Tensor], Tensor], Tensor],
    given: Callable[[Sequence[Tensor]], Tensor],
    lr: float | Tensor,
) -> Tensor:
    """The gradient by phi of L(theta - lr grad_theta M(theta; phi)), with L the given loss and M the learned one.

    It is -lr v^T (d/dphi) grad_theta M, where v is the gradient of L at the point that the step leads to, so that no
    pass through the step itself is needed. N models side by side have all tensors with a leading axis, and their
    losses are (N,).

    Args:
        weights: phi, (F,) or (N, F).
        parameters: theta, tensors of any shape; those that the learned loss does not reach stay where they are.
        learned: from parameters and weights to M, a number or (N,).
        given: from parameters to L, the same.
        lr: of the step; a number, or whatever multiplies each of the parameters.

    Returns:
        As `weights`; zero where nothing depends on them.
    """
    with torch.enable_grad():
        phi = weights.detach().requires_grad_()
        here = [parameter.detach().requires_grad_() for parameter in parameters]
        slopes = torch.autograd.grad(learned(here, phi).sum(), here, create_graph=True, allow_unused=True)
        there = [
            (old.detach() if slope is None else old.detach() - lr * slope.detach()).requires_grad_()
            for old, slope in zip(here, slopes, strict=True)
        ]
        directions = torch.autograd.grad(given(there).sum(), there, allow_unused=True)
        bent = [
            (slope, lr * direction)
            for slope, direction in zip(slopes, directions, strict=True)
            if slope is not None and slope.requires_grad and direction is not None
        ]
        if not bent:
            return torch.zeros_like(weights)
        (found,) = torch.autograd.grad(
            [slope for slope, _ in bent], phi, [-direction for _, direction in bent], materialize_grads=True,
            allow_unused=True,
        )  # fmt: skip
    return found.detach()
