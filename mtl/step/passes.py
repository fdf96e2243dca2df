"""Extra passes over a model that leave no trace: parameters, random states and running statistics stay as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook


def called_with(model: nn.Module, values: Mapping[str, Tensor], inputs: Any) -> Any:
    """`model(inputs)` with other parameters and buffers, by name; afterwards the model has its own again.

    That is `torch.func.functional_call`, but for a module that has two names in the model, as the first of several
    experts may have: torch swaps the tensors of each name in turn, and then puts those back in the same order, which
    leaves the model with the others. So here each place is named once.
    """
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    given = {id(named[name]): value for name, value in values.items()}
    places = {
        f"{prefix}.{name}".removeprefix("."): given[id(tensor)]
        for prefix, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in given
    }
    return functional_call(model, places, (inputs,), tie_weights=False)


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
    training step. Inside the block the layers work on copies of their buffers, so that graphs made before it, which
    refuse buffers that have changed since, can still be used after it. A module with `rewind()` is told to go back to
    where it was before its last pass (`mtl.models` has one that draws noise). The hooks are global because whoever
    calls the block has a closure, not the model.
    """
    kept: dict[nn.Module, dict[str, Tensor | None]] = {}

    def keep(module: nn.Module, _inputs: Any) -> None:
        if _remembers(module) and module not in kept:
            kept[module] = dict(module._buffers)
            for name, buffer in kept[module].items():
                module._buffers[name] = None if buffer is None else buffer.clone()
        if module.training and callable(rewind := getattr(module, "rewind", None)):
            rewind()

    handle = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
        for module, buffers in kept.items():
            module._buffers.update(buffers)


def _remembers(module: nn.Module) -> bool:
    """Whether a forward pass in training changes buffers: of normalisation layers, and of what can be rewound."""
    if isinstance(module, _NormBase):
        return module.training and module.track_running_stats
    return module.training and hasattr(module, "rewind")
