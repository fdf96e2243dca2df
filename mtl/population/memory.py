"""How many members one program can hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.population.shard import Shard


def capacity(trial: Shard, limit: int | None) -> int:
    """Members of the like of those in `trial` that fit into `limit` bytes, at least 1.

    Makes a step with `trial`, which is of no use afterwards, and adds up a member's state and what the step's graph
    keeps for its backward pass. Gradients count as one more copy of the parameters a task where the strategy reads
    them one by one, otherwise two.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trial.step()
    if limit is None:
        return 2**31
    population = trial.population
    rows = len(trial.setting.tasks) + 1 if population.strategies[0].needs & {"gramian", "jacobian"} else 2
    gradients = rows * _bytes(population.state["parameters"])
    a_member = (sum(kept.values()) + _bytes(population.state) + gradients) / population.size
    return max(1, int(limit / a_member))


def _bytes(tree: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))
