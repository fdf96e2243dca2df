"""Applying: weights become gradients in `.grad`, by one weighted backward pass or by combining rows of a Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from mtl.graph import Output, leaves, survey
from mtl.jacobian import Own, task_gradients


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to `.grad` as a backward pass would, so that gradient accumulation keeps working."""
    gradient = gradient.to(parameter.dtype)
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def accumulate_all(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add to `.grad` of each parameter; None adds nothing."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            accumulate(parameter, gradient)


def weighted_backward(losses: Sequence[Tensor], weights: Tensor) -> None:
    """One backward pass of the weighted losses into every leaf.

    Args:
        losses: K scalars, or one (K,) tensor alone.
        weights: (K,).
    """
    if len(losses) == 1 and losses[0].ndim:
        losses[0].backward(weights.to(losses[0].dtype))
    else:
        torch.autograd.backward(list(losses), [w.to(loss.dtype) for w, loss in zip(weights, losses, strict=True)])


def weighted_backward_split(
    losses: Tensor, weights: Tensor, on_heads: Tensor, shared: Sequence[Tensor], mean: Callable[[Tensor], Tensor]
) -> None:
    """Shared leaves get one weighted sum, heads another; the second pass stops at the heads.

    Args:
        losses: (K,).
        weights: (K,) of the shared leaves.
        on_heads: (K,) of the heads.
        shared: the shared leaves.
        mean: averages a gradient over processes.
    """
    heads = survey([losses], {id(parameter) for parameter in shared}).heads
    gradients = torch.autograd.grad(
        losses, shared, weights.to(losses.dtype), retain_graph=bool(heads), allow_unused=True
    )
    accumulate_all(shared, [None if gradient is None else mean(gradient) for gradient in gradients])
    if heads:
        gradients = torch.autograd.grad(losses, heads, on_heads.to(losses.dtype))
        accumulate_all(heads, [mean(gradient) for gradient in gradients])


def guarded_backward(
    losses: Sequence[Output],
    shared_weights: Tensor,
    head_weights: Tensor,
    shared: Collection[int],
    mean: Callable[[Tensor], Tensor],
) -> bool:
    """Backward pass of a step in which some task is broken; entries that are not finite are left out.

    Each loss is differentiated by itself and reaches its leaves through `.grad` only when it is whole.

    Args:
        losses: those that are finite.
        shared_weights: one a loss.
        head_weights: one a loss.
        shared: the `id`s of the shared parameters.
        mean: averages a gradient over processes.

    Returns:
        Whether every gradient was finite.
    """
    whole = True
    for loss, on_shared, on_heads in zip(losses, shared_weights, head_weights, strict=True):
        reached = leaves([loss])
        gradients = task_gradients([loss], reached, retain_graph=loss is not losses[-1])[0]
        for leaf, gradient in zip(reached, gradients, strict=True):
            if gradient is not None:
                gradient = mean(gradient)
                finite = gradient.isfinite()
                whole = whole and bool(finite.all())
                weight = on_shared if id(leaf) in shared else on_heads
                accumulate(leaf, torch.where(finite, gradient, 0) * weight.to(gradient.dtype))
    return whole


def accumulate_own(own: Sequence[Own], weights: Tensor | None) -> None:
    """Add each task's gradients on its own leaves, times its weight (K,) where weights are given."""
    for task, pairs in enumerate(own):
        gradients = [gradient for _, gradient in pairs]
        if weights is not None and gradients:
            weight = weights[task]
            gradients = [gradient * weight.to(gradient.dtype) for gradient in gradients]
        for (leaf, _), gradient in zip(pairs, gradients, strict=True):
            accumulate(leaf, gradient)
