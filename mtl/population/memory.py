"""How much memory the members of one program take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.population.population import Population


def bytes_a_member(population: Population, step: Callable[[], object]) -> float:
    """What a member takes while `step` is made: its state, what the graph keeps for the backward pass, and gradients.

    Makes the step. Gradients count as one more copy of the parameters a task and one for their sum where the strategy
    reads them one by one, otherwise two. Found by adding up, so that it holds on a CPU as well as on a GPU.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    tasks = population.weights.shape[1]
    copies = tasks + 1 if population.strategies[0].needs & {"gramian", "jacobian"} else 2
    gradients = copies * _bytes(population.state["parameters"])
    return (sum(kept.values()) + _bytes(population.state) + gradients) / population.size


def _bytes(tree: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))
