"""Applying: weights become gradients in `.grad`, by one weighted backward pass or by combining rows of a Jacobian."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.graph import Output, leaves, task_gradients


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to `.grad` as a backward pass would, so that gradient accumulation keeps working."""
    gradient = gradient.to(parameter.dtype)
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def weighted_backward(losses: Sequence[Tensor], weights: Tensor) -> None:
    """One backward pass of `sum_k weights[k] * losses[k]` into every leaf."""
    torch.stack(list(losses)).mul(weights.detach()).sum().backward()


def guarded_backward(
    losses: Sequence[Output], shared_weights: Tensor, head_weights: Tensor, shared: Sequence[Tensor]
) -> bool:
    """Backward pass of a step in which some task is broken; entries that are not finite are left out.

    Each loss is differentiated by itself and reaches its leaves through `.grad` only when it is whole.

    Returns:
        Whether every gradient was finite.
    """
    own = {id(parameter) for parameter in shared}
    whole = True
    for loss, on_shared, on_heads in zip(losses, shared_weights, head_weights, strict=True):
        reached = leaves([loss])
        gradients = task_gradients([loss], reached, retain_graph=loss is not losses[-1])[0]
        for leaf, gradient in zip(reached, gradients, strict=True):
            if gradient is not None:
                finite = gradient.isfinite()
                whole = whole and bool(finite.all())
                weight = on_shared if id(leaf) in own else on_heads
                accumulate(leaf, torch.where(finite, gradient, 0) * weight.to(gradient.dtype))
    return whole


def weighted_backward_own_heads(
    losses: Sequence[Tensor], weights: Tensor, shared: Sequence[Tensor], heads: Sequence[Tensor]
) -> None:
    """Shared leaves get the weighted sum, heads the gradient of the plain sum; the second pass stops at the heads."""
    stacked = torch.stack(list(losses))
    gradients = torch.autograd.grad(
        (stacked * weights.detach()).sum(), shared, retain_graph=bool(heads), allow_unused=True
    )
    for parameter, gradient in zip(shared, gradients, strict=True):
        if gradient is not None:
            accumulate(parameter, gradient)
    if heads:
        torch.autograd.backward(stacked.sum(), inputs=list(heads))


def combine(rows: Tensor, weights: Tensor, shared: Sequence[Tensor]) -> None:
    """Accumulate `sum_k weights[k] * J[k]` into the shared parameters; weights are (K,) or (K, D), J is (K, D)."""
    combined = (weights * rows).sum(0) if weights.ndim == 2 else weights.to(rows.dtype) @ rows
    sizes = [parameter.numel() for parameter in shared]
    for parameter, piece in zip(shared, combined.split(sizes), strict=True):
        accumulate(parameter, piece.view_as(parameter))


def combine_heads(
    gradients: Sequence[Sequence[Tensor | None]], weights: Tensor, heads: Sequence[Tensor], scale: Tensor | float = 1.0
) -> None:
    """Accumulate each task's gradient on the heads, times its weight and `scale`."""
    for weight, row in zip(weights, gradients, strict=True):
        for parameter, gradient in zip(heads, row, strict=True):
            if gradient is not None:
                accumulate(parameter, gradient * (weight * scale).to(gradient.dtype))
