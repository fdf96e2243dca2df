"""Applying: weights become gradients in `.grad`, by one weighted backward pass or from gradients at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mtl.graph import Output, leaves, task_gradients


def accumulate(update: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Add to each leaf's `.grad` as a backward pass would, so that gradient accumulation keeps working."""
    sums: list[Tensor] = []
    terms: list[Tensor] = []
    for leaf, gradient in update:
        gradient = gradient.to(leaf.dtype)
        if leaf.grad is None:
            leaf.grad = gradient
        else:
            sums.append(leaf.grad)
            terms.append(gradient)
    if sums:
        torch._foreach_add_(sums, terms)


def weighted_backward(losses: Tensor | Sequence[Output], weights: Tensor, *, retain_graph: bool = False) -> None:
    """One backward pass of `sum_k weights[k] * losses[k]` into every leaf; losses are one tensor (K,) or K scalars."""
    if isinstance(losses, Tensor):
        losses.backward(weights.to(losses.dtype), retain_graph=retain_graph)
    else:
        torch.autograd.backward(
            list(losses),  # type: ignore[arg-type]  # tensors and places in a graph may be mixed
            list(weights.unbind()),
            retain_graph=retain_graph,
        )


def weighted_backward_own_heads(
    losses: Sequence[Output],
    weights: Tensor,
    one: Tensor,
    shared: Sequence[Tensor],
    heads: Sequence[Tensor],
    *,
    retain_graph: bool = False,
) -> None:
    """Shared leaves get the weighted sum, heads the gradient of the plain sum; the second pass stops at the heads.

    Args:
        losses: K scalars.
        weights: (K,).
        one: what a loss's gradient by itself is taken to be.
        shared, heads: the leaves.
    """
    passes = [(shared, list((weights * one).unbind())), (heads, [one] * len(losses))]
    passes = [(wanted, seeds) for wanted, seeds in passes if wanted]
    update: list[tuple[Tensor, Tensor]] = []
    for number, (wanted, seeds) in enumerate(passes):
        gradients = torch.autograd.grad(
            list(losses),  # type: ignore[arg-type]
            list(wanted),
            seeds,
            retain_graph=retain_graph or number < len(passes) - 1,
            allow_unused=True,
        )
        update += [(leaf, gradient) for leaf, gradient in zip(wanted, gradients, strict=True) if gradient is not None]
    accumulate(update)


def guarded_backward(
    losses: Sequence[Output], weights_of: Callable[[Tensor], Tensor], *, retain_graph: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """Backward pass of a step in which some task is broken; entries that are not finite are left out.

    Each loss is differentiated by itself.

    Args:
        losses: those that are there.
        weights_of: their weights for a leaf.
        retain_graph: whether the graph must survive.

    Returns:
        () whether every gradient was finite, and the leaves that were reached.
    """
    update: dict[int, tuple[Tensor, Tensor]] = {}
    finite: list[Tensor] = []
    reached: dict[int, Tensor] = {}
    for task, loss in enumerate(losses):
        found = leaves([loss])
        reached |= {id(leaf): leaf for leaf in found}
        gradients = task_gradients([loss], found, retain_graph=retain_graph or loss is not losses[-1])[0]
        for leaf, gradient in zip(found, gradients, strict=True):
            if gradient is not None:
                known = gradient.isfinite()
                finite.append(known.all())
                term = torch.where(known, gradient, 0) * weights_of(leaf)[task].to(gradient.dtype)
                update[id(leaf)] = leaf, term if id(leaf) not in update else update[id(leaf)][1] + term
    accumulate(update.values())
    return torch.stack(finite).all(), list(reached.values())


def combined(rows: Tensor, weights: Tensor, shared: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """`sum_k weights[k] * J[k]` for each shared parameter; weights are (K,) or (K, D), J is (K, D)."""
    total = (weights * rows).sum(0) if weights.ndim == 2 else weights.to(rows.dtype) @ rows
    pieces = total.split([parameter.numel() for parameter in shared])
    return [(parameter, piece.view_as(parameter)) for parameter, piece in zip(shared, pieces, strict=True)]


def clear_nonfinite(parameters: Iterable[Tensor]) -> None:
    """Set to zero what is not finite in `.grad`."""
    for parameter in parameters:
        if parameter.grad is not None:
            torch.nan_to_num_(parameter.grad, 0.0, 0.0, 0.0)
