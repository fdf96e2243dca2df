"""Measuring: the losses and gradients of a step, as the tensors that strategies read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook

#: A loss, or the place in a graph where one comes from.
Output = Tensor | GradientEdge


def leaves(losses: Sequence[Output]) -> list[Tensor]:
    """The leaf tensors that any of the losses reaches through its graph, in the order in which a walk meets them."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    pending: list[Any] = [loss.grad_fn if isinstance(loss, Tensor) else loss.node for loss in reversed(losses)]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.setdefault(id(node.variable), node.variable)
        pending.extend(following for following, _ in node.next_functions)
    return list(found.values())


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


@contextlib.contextmanager
def lookahead(parameters: Sequence[Tensor], steps: Sequence[Tensor | None], lr: float) -> Iterator[None]:
    """Move parameters by `-lr * step` inside the block, and put them back bit for bit after it."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                if step is not None:
                    parameter.sub_(step.to(parameter.dtype), alpha=lr)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The states of the global generators that a forward pass on `device` may draw from."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextlib.contextmanager
def replayed_randomness(states: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """Draw from `states` inside the block, and go on as if it had not been there.

    A batch that is read a second time then gets the same dropout whenever that happens, before a checkpoint or after.
    """

    def restore(kept: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(kept[0])
        if kept[1] is not None:
            torch.cuda.set_rng_state(kept[1], device)

    now = random_states(device)
    restore(states)
    try:
        yield
    finally:
        restore(now)


@contextlib.contextmanager
def frozen_statistics() -> Iterator[None]:
    """Extra forward passes inside the block leave the running statistics of normalisation layers as they were.

    A second reading of a batch (FAMO's losses after the step, a lookahead's validation losses) is a measurement, not a
    training step. The hooks are global because whoever calls the block has a closure, not the model.
    """
    kept: dict[nn.Module, list[Tensor]] = {}

    def keep(module: nn.Module, _inputs: Any) -> None:
        if isinstance(module, _NormBase) and module.training and module.track_running_stats and module not in kept:
            kept[module] = [buffer.clone() for buffer in module.buffers(recurse=False)]

    handle = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
        # Only now: a backward pass inside the block still needs the buffers as the forward pass left them.
        with torch.no_grad():
            for module, values in kept.items():
                for buffer, value in zip(module.buffers(recurse=False), values, strict=True):
                    buffer.copy_(value)
