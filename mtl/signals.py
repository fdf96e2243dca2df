"""Measuring: the losses and gradients of a step, as the tensors that strategies read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


def leaves(losses: Sequence[Tensor]) -> list[Tensor]:
    """The leaf tensors that any of the losses reaches through its graph, in the order in which a walk meets them."""
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    pending = [loss.grad_fn for loss in reversed(losses)]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.setdefault(id(node.variable), node.variable)
        pending.extend(following for following, _ in node.next_functions)
    return list(found.values())


def task_gradients(
    losses: Sequence[Tensor], wanted: Sequence[Tensor], *, retain_graph: bool = False
) -> list[tuple[Tensor | None, ...]]:
    """Each loss's gradient with respect to each wanted tensor, None where it does not reach; K backward passes."""
    last = len(losses) - 1
    return [
        torch.autograd.grad(loss, wanted, retain_graph=retain_graph or index < last, allow_unused=True)
        for index, loss in enumerate(losses)
    ]


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


@contextlib.contextmanager
def frozen_statistics() -> Iterator[None]:
    """Extra forward passes inside the block leave the running statistics of normalisation layers as they were.

    A second reading of a batch (FAMO's losses after the step, a lookahead's validation losses) is a measurement, not a
    training step. The hooks are global because whoever calls the block has a closure, not the model.
    """
    kept: dict[nn.Module, list[Tensor]] = {}

    def before(module: nn.Module, _inputs: Any) -> None:
        if isinstance(module, _NormBase) and module.training and module.track_running_stats:
            kept[module] = [buffer.clone() for buffer in module.buffers(recurse=False)]

    def after(module: nn.Module, _inputs: Any, _output: Any) -> None:
        if module in kept:
            for buffer, value in zip(module.buffers(recurse=False), kept.pop(module), strict=True):
                buffer.copy_(value)

    handles = [register_module_forward_pre_hook(before), register_module_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
