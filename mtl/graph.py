"""The autograd graph of a step's losses: the leaves they reach, and each task's gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

#: A loss, or the place in a graph where one comes from.
Output = Tensor | GradientEdge


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


def task_gradients(
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
    return None if isinstance(loss, Tensor) else like[0].new_ones(())


def jacobian(gradients: Sequence[Sequence[Tensor | None]], wanted: Sequence[Tensor]) -> Tensor:
    """Gradients laid flat as J (K, D), zeros where a task does not reach; float32 at least."""
    dtype = torch.promote_types(wanted[0].dtype, torch.float32)
    rows = [
        torch.cat(
            [
                (torch.zeros_like(tensor) if gradient is None else gradient).flatten().to(dtype)
                for gradient, tensor in zip(row, wanted, strict=True)
            ]
        )
        for row in gradients
    ]
    return torch.stack(rows)
