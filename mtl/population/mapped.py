"""A function of one member made one of all members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree


def mapped(function: Callable[..., Any], members: int) -> Callable[..., Any]:
    """`function` of every member: its tensors, and those that it returns, get a leading member axis.

    That is `vmap`, but for a single member, for whom it would cost more than the function itself on a small model.

    Args:
        function: takes and returns tensors in any nesting.
        members: how many there are, the length of the leading axis.
    """
    if members > 1:
        return vmap(function, randomness="different")

    def alone(*trees: Any) -> Any:
        own = pytree.tree_map(lambda leaf: leaf.squeeze(0) if isinstance(leaf, Tensor) else leaf, trees)
        return pytree.tree_map(lambda leaf: leaf.unsqueeze(0) if isinstance(leaf, Tensor) else leaf, function(*own))

    return alone
