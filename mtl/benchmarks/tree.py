"""Inputs as tensors in any nesting: one tensor, or dicts, tuples, lists and named tuples of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.losses.labels import IGNORE


def named_leaves(tree: Any, name: str) -> list[tuple[str, Any]]:
    """What a tree holds, each with the expression that leads to it, such as `inputs['mask']`."""
    found, _ = pytree.tree_flatten_with_path(tree)
    return [(f"{name}{pytree.keystr(path)}", leaf) for path, leaf in found]


def first_tensor(tree: Any) -> Tensor:
    """The first tensor of a tree, for what all have in common: the number of examples, the device."""
    return next(leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))


def mapped(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same tree with each tensor replaced."""
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def mapped_together(function: Callable[..., Tensor], tree: Any, *others: Any) -> Any:
    """The same of trees of one structure: `function` gets the tensors of one place."""
    return pytree.tree_map(function, tree, *others)


def stacked(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one, with a new leading axis."""
    return pytree.tree_map(lambda *leaves: torch.stack(leaves), *trees)


def floating_dtype(tree: Any) -> torch.dtype | None:
    """The dtype of the first tensor that is floating point; None where there is none."""
    dtypes = (leaf.dtype for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return next(dtypes, None)


def marked(target: Tensor, ignore: float | None) -> Tensor:
    """Labels with a missing one where `ignore` stands: NaN, or -100 among whole numbers, which become int64."""
    if ignore is None:
        return target
    if target.is_floating_point():
        return torch.where(target == ignore, torch.nan, target)
    return torch.where(target == ignore, IGNORE, target.to(torch.int64))


class Gathered:
    """Pieces that are written into one tensor as they come.

    A list of them would lie between the large batches that come and go, so that memory could not be used again.

    Args:
        total: length of the whole.
        axis: on which pieces follow each other.
    """

    def __init__(self, total: int, axis: int = 0) -> None:
        self._total, self._axis, self._filled = total, axis, 0
        self._whole: Tensor | None = None

    def add(self, piece: Tensor) -> None:
        """Write the next piece."""
        if self._whole is None:
            shape = [*piece.shape]
            shape[self._axis] = self._total
            self._whole = piece.new_empty(shape)
        length = piece.shape[self._axis]
        self._whole.narrow(self._axis, self._filled, length).copy_(piece)
        self._filled += length

    def whole(self) -> Tensor:
        """What was written."""
        assert self._whole is not None
        return self._whole.narrow(self._axis, 0, self._filled)
