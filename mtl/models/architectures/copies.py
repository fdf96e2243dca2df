"""Several copies of a trunk that begin together, and what its stages give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl.models.trunks import Stages, Trunk, shape_of
from mtl.models.trunks.trunk import Carried


def copies(trunk: Trunk, inputs: Any, count: int) -> list[Stages]:
    """So many trunks, each with parameters of its own; the first one's entry serves all."""
    found = [trunk.build(shape_of(inputs))[0] for _ in range(count)]
    for other in found[1:]:
        other.forget_entry()
    return found


def starts(stages: Stages, inputs: Any) -> list[tuple[Tensor, Carried]]:
    """The activation before each stage and behind the last, for a few examples; nothing is left changed."""
    found = [stages.begin(on_cpu(inputs))]
    training = stages.training
    stages.eval()
    with torch.no_grad():
        for index in range(stages.count):
            found.append(stages.run(index, *found[-1]))
    stages.train(training)
    return found


def on_cpu(inputs: Any) -> Any:
    """Inputs as a model that was made just now can read them."""
    dtype = torch.get_default_dtype()
    return pytree.tree_map(lambda leaf: leaf.cpu().to(dtype) if leaf.is_floating_point() else leaf.cpu(), inputs)


def parameters_of(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    """The parameters of several modules."""
    for module in modules:
        yield from module.parameters()


def check_branches(name: str, stages: Stages, trunk: Trunk) -> None:
    """Raise `ValueError` where the stages of one copy cannot follow on those of another."""
    if not stages.branches:
        raise ValueError(
            f"{name}: the model {trunk} has connections that skip stages, which cannot go from one copy of it to "
            "another; hard-sharing, cross-stitch, mtan, mmoe, dselect-k and cgc can have it"
        )
