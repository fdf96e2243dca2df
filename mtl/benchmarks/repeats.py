"""Examples that are judged on though they were trained on: a test that holds them says too much."""

from __future__ import annotations

import torch
from torch.utils import _pytree as pytree

from mtl.benchmarks.benchmark import Examples, Splits
from mtl.benchmarks.split import Split

_MOST = 2**28  # bytes of inputs above which nobody looks


def repeated_inputs(splits: Splits) -> list[str]:
    """Of which splits examples have the very inputs of a training example, and how many; a line each.

    Only data in memory is looked at, up to 256 MiB of inputs a split.
    """
    parts = dict(splits.parts())
    found = []
    for name, part in parts.items():
        kind, of, task = name.partition(" of ")
        if kind == "train" or not (seen := set(_inputs(parts[f"train{of}{task}"]))):
            continue
        if count := sum(each in seen for each in _inputs(part)):
            some = f"{count:,} of {len(part):,} examples of the {kind} split{of}{task}"
            found.append(
                f"{some} have the same inputs as one of the training split; where it is the same, it is no test"
            )
    return found


def _inputs(split: Examples) -> list[int]:
    """A number for the inputs of each example, by which equal ones are known."""
    if not isinstance(split, Split):
        return []
    leaves = [leaf.detach().cpu().reshape(len(split), -1) for leaf in pytree.tree_leaves(split.inputs)]
    if sum(leaf.nbytes for leaf in leaves) > _MOST:
        return []
    rows = torch.cat([leaf.contiguous().view(torch.uint8) for leaf in leaves], 1)
    return [hash(row.tobytes()) for row in rows.numpy()]
