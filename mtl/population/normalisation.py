"""Running statistics of batch normalisation, gathered anew as `swa_utils.update_bn` of torch does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def normalisations(model: nn.Module) -> dict[str, _BatchNorm]:
    """The layers of a model that keep running statistics of batches, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def forgotten(model: nn.Module, fixed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Buffers by name with the running statistics of `model` as before the first batch."""
    found = dict(fixed)
    for layer in normalisations(model):
        for name, value in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
            place = f"{layer}.{name}".removeprefix(".")
            if place in found:
                found[place] = torch.full_like(found[place], value)
    return found


@contextmanager
def gathering(model: nn.Module, number: int) -> Iterator[None]:
    """Inside the block a forward pass adds batch `number`, from 0, to the mean of the statistics; all else evaluates.

    Dropout is off: the statistics are for predictions, which are made without it.
    """
    layers = [*normalisations(model).values()]
    before = [(layer, layer.momentum) for layer in layers]
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    for layer in layers:
        layer.train()
        layer.momentum = 1 / (number + 1)
    try:
        yield
    finally:
        for layer, momentum in before:
            layer.momentum = momentum
        for module, mode in training:
            module.training = mode
