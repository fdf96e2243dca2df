"""The autograd graph of a step's losses: the leaves they reach, and each task's gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

#: A loss, or the place in a graph where one comes from.
Output = Tensor | GradientEdge
#: Leaves with what is to be added to their `.grad`.
Update = list[tuple[Tensor, Tensor]]


def distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Each tensor once, in the order in which they come first; a model with tied weights names some of them twice."""
    return list({id(tensor): tensor for tensor in tensors}.values())


def leaves(losses: Sequence[Output]) -> list[Tensor]:
    """The leaf tensors that any of the losses reaches through its graph, in the order in which a walk meets them."""
    found: list[Tensor] = []
    seen: set[Any] = {None}
    pending: list[Any] = [loss.grad_fn if isinstance(loss, Tensor) else loss.node for loss in reversed(losses)]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        following = node.next_functions
        if following:
            pending += [node for node, _ in following]
        elif hasattr(node, "variable") and node.variable.requires_grad:  # it may have been frozen since
            found.append(node.variable)
    return distinct(found)


def branches(losses: Tensor) -> list[Output]:
    """The K losses of a (K,) tensor, each with only its own graph where the tensor is a `torch.stack` of them.

    Indexing the tensor instead would send zeros into the other losses' graphs, and zero times NaN is NaN: one broken
    loss would spoil the gradients of all.
    """
    node = losses.grad_fn
    if node is None or node.name() != "StackBackward0":
        return list(losses.unbind())
    return [
        losses[k].detach() if following is None else GradientEdge(following, number)
        for k, (following, number) in enumerate(node.next_functions)
    ]


def branch(loss: Tensor) -> Output:
    """The loss by itself where it was taken out of a `torch.stack` of losses, otherwise as it is."""
    node = loss.grad_fn
    if node is not None and node.name() == "UnbindBackward0" and loss.ndim == 0:
        stack = node.next_functions[0][0]
        if stack is not None and stack.name() == "StackBackward0":
            following, number = stack.next_functions[loss.output_nr]
            return loss.detach() if following is None else GradientEdge(following, number)
    return loss


def gradients_of_each(
    losses: Sequence[Output], wanted: Sequence[Tensor], *, retain_graph: bool = False
) -> list[tuple[Tensor | None, ...]]:
    """Each loss's gradient with respect to each wanted tensor, None where it does not reach; K backward passes."""
    last = len(losses) - 1
    return [
        torch.autograd.grad(
            loss, wanted, _one(loss, wanted), retain_graph=retain_graph or index < last, allow_unused=True
        )
        for index, loss in enumerate(losses)
    ]


def _one(loss: Output, like: Sequence[Tensor]) -> Tensor | None:
    """What autograd cannot infer for a place in a graph: the gradient of a scalar by itself."""
    if isinstance(loss, Tensor):
        return None
    return torch.ones((), dtype=like[0].dtype.to_real(), device=like[0].device)


def jacobian(gradients: Sequence[Sequence[Tensor | None]], wanted: Sequence[Tensor]) -> Tensor:
    """Gradients laid flat as J (K, D), zeros where a task does not reach; float32 at least."""
    dtype = torch.promote_types(wanted[0].dtype.to_real(), torch.float32)
    rows = [
        torch.cat(
            [
                real(torch.zeros_like(tensor) if gradient is None else dense(gradient, tensor)).flatten().to(dtype)
                for gradient, tensor in zip(row, wanted, strict=True)
            ]
        )
        for row in gradients
    ]
    return torch.stack(rows)


def cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values in a dtype; most are in it already, and `to` takes ten times as long to see that."""
    return values if values.dtype == dtype else values.to(dtype)


def real(values: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones (..., 2), whose inner product is the real part of g^H h."""
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def size(tensor: Tensor) -> int:
    """The real numbers in a tensor."""
    return 2 * tensor.numel() if tensor.is_complex() else tensor.numel()


def shaped(flat: Tensor, like: Tensor) -> Tensor:
    """Real numbers (size,) in the form of a tensor, complex where that is."""
    if not like.is_complex():
        return flat.view(like.shape)
    pairs = flat.view(*like.shape, 2)
    return torch.complex(pairs[..., 0], pairs[..., 1])


def dense(gradient: Tensor, leaf: Tensor) -> Tensor:
    """The gradient.

    Raises:
        ValueError: it is sparse, so that its inner products with others cannot be formed.
    """
    if gradient.is_sparse:
        raise ValueError(
            f"the gradient on a parameter of shape {tuple(leaf.shape)} is sparse, and this strategy compares "
            "gradients: make its embedding with sparse=False, or take a strategy that reads losses only"
        )
    return gradient


def owned(update: Update) -> Update:
    """The update without memory that two gradients share: autograd hands one tensor to both terms of a sum."""
    seen: set[int] = set()
    apart: Update = []
    for leaf, gradient in update:
        if not gradient.is_sparse:
            memory = gradient.untyped_storage().data_ptr()
            if memory in seen:
                gradient = gradient.clone()
            seen.add(memory)
        apart.append((leaf, gradient))
    return apart
