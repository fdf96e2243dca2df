"""Applying: weights become gradients in `.grad`, by one weighted backward pass or from gradients at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mtl.gradients.graph import Output, Update, cast, gradients_of_each, leaves, owned, shaped, size
from mtl.step.guard import combination, finite_part


def accumulate(update: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Add to each leaf's `.grad` as a backward pass would: in the leaf's layout, and with hooks that wait for that.

    The gradients become the leaves' own, so no two may share memory (see `owned`).
    """
    sums: list[Tensor] = []
    terms: list[Tensor] = []
    hooked: list[Tensor] = []
    for leaf, gradient in update:
        gradient, before = cast(gradient, leaf.dtype), leaf.grad
        if before is None:
            leaf.grad = gradient if gradient.is_sparse else _laid_out(gradient, leaf)
        elif gradient.is_sparse or before.is_sparse:
            leaf.grad = gradient + before if before.is_sparse and not gradient.is_sparse else before + gradient
        else:
            sums.append(before)
            terms.append(gradient)
        if leaf._post_accumulate_grad_hooks:
            hooked.append(leaf)
    if sums:
        torch._foreach_add_(sums, terms)
    for leaf in hooked:
        for hook in list(leaf._post_accumulate_grad_hooks.values()):
            hook(leaf)


def _laid_out(gradient: Tensor, leaf: Tensor) -> Tensor:
    """The gradient with the strides of its leaf, which may be channels-last; an expanded one written out."""
    if gradient.stride() == leaf.stride():
        return gradient
    return torch.empty_like(leaf, requires_grad=False).copy_(gradient)


def weighted_backward(losses: Tensor | Sequence[Output], weights: Tensor, *, retain_graph: bool = False) -> None:
    """One backward pass of `sum_k weights[k] * losses[k]` into every leaf; losses are one tensor (K,) or K scalars."""
    if isinstance(losses, Tensor):
        losses.backward(cast(weights, losses.dtype), retain_graph=retain_graph)
    else:
        torch.autograd.backward(
            list(losses),  # type: ignore[arg-type]  # tensors and places in a graph may be mixed
            list(weights.unbind()),
            retain_graph=retain_graph,
        )


def weighted_gradients(
    losses: Tensor | Sequence[Output], passes: Sequence[tuple[Sequence[Tensor], Tensor]], *, retain_graph: bool = False
) -> Update:
    """Gradients of weighted sums of the losses, for leaves with weights of their own; no pass goes past its leaves.

    Args:
        losses: one tensor (K,) or K scalars.
        passes: leaves, and the weights (K,) for them.
        retain_graph: whether the graph must survive.
    """
    passes = [(wanted, weights) for wanted, weights in passes if wanted]
    update: Update = []
    for number, (wanted, weights) in enumerate(passes):
        gradients = torch.autograd.grad(
            [losses] if isinstance(losses, Tensor) else list(losses),  # type: ignore[arg-type]
            list(wanted),
            # A leaf that is itself a loss gets what is given here for its gradient.
            [weights.to(losses.dtype, copy=True)] if isinstance(losses, Tensor) else list(weights.clone().unbind()),
            retain_graph=retain_graph or number < len(passes) - 1,
            allow_unused=True,
        )
        update += [(leaf, gradient) for leaf, gradient in zip(wanted, gradients, strict=True) if gradient is not None]
    return owned(update)


def guarded_gradients(
    losses: Sequence[Output],
    weights_of: Callable[[Tensor], Tensor],
    *,
    retain_graph: bool = False,
    leaves_out: bool = True,
) -> tuple[Update, Tensor]:
    """Gradients of a step in which some task is broken; entries that are not finite are left out.

    Each loss is differentiated by itself.

    Args:
        losses: those that are there.
        weights_of: their weights for a leaf.
        retain_graph: whether the graph must survive.
        leaves_out: False keeps entries that are not finite, for a scaler that has to see them.

    Returns:
        The update, and () whether every gradient was finite.
    """
    update: dict[int, tuple[Tensor, Tensor]] = {}
    whole: list[Tensor] = []
    for task, loss in enumerate(losses):
        found = leaves([loss])
        gradients = gradients_of_each([loss], found, retain_graph=retain_graph or loss is not losses[-1])[0]
        for leaf, gradient in zip(found, gradients, strict=True):
            if gradient is not None:
                finite, known = finite_part(gradient)
                whole.append(known.all())
                term = (finite if leaves_out else gradient) * weights_of(leaf)[task].to(gradient.dtype)
                update[id(leaf)] = leaf, term if id(leaf) not in update else update[id(leaf)][1] + term
    return list(update.values()), torch.stack(whole).all()


def combined(rows: Tensor, weights: Tensor, shared: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """`sum_k weights[k] * J[k]` for each shared parameter; weights are (K,) or (K, D), J is (K, D)."""
    pieces = combination(weights, rows).split([size(parameter) for parameter in shared])
    return [(parameter, shaped(piece, parameter)) for parameter, piece in zip(shared, pieces, strict=True)]
