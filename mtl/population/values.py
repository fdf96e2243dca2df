"""Settings of the members' optimizers and of their regularization, as tensors with a leading member axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

#: One value of each setting a member, (N, 1) and float64; (N, P) where the tensors of a member differ in it.
Values = Mapping[str, Tensor]

#: Penalties on parameters, by name.
PENALTIES = ("l1", "l2", "spectral", "orthogonal")
#: Settings beside those of the optimizer, and their defaults.
OTHERS: Mapping[str, float | None] = {
    "clip": None,
    "clip_value": None,
    "lr_factor": 1.0,
    **dict.fromkeys(PENALTIES, 0.0),
}


def rows(name: str, given: Any, members: int, tensors: int) -> Tensor:
    """A setting of all members: (N, 1), or (N, T) where the T tensors of a member may differ in it.

    Args:
        name: of the setting.
        given: one number or one a member; of a member, one number or one a tensor. None is no limit: infinity.
        members: N.
        tensors: T.

    Raises:
        ValueError: as many numbers as there are neither members nor tensors.
    """
    each = [given] * members if given is None or isinstance(given, int | float) else list(given)
    if len(each) != members:
        raise ValueError(f"{name} has {len(each)} values for {members} members")
    listed = [list(value) if isinstance(value, Sequence) else [value] for value in each]
    for row in listed:
        if len(row) not in (1, tensors):
            raise ValueError(f"{name} of a member has {len(row)} values for {tensors} tensors")
    width = max(len(row) for row in listed)
    numbers = [[float("inf") if one is None else float(one) for one in row] * (width // len(row)) for row in listed]
    return torch.tensor(numbers, dtype=torch.float64)


def in_one(several: Sequence[Tensor]) -> Tensor:
    """One setting of several populations."""
    width = max(value.shape[1] for value in several)
    return torch.cat([value.expand(-1, width) for value in several])


def applied(values: Mapping[str, Tensor], owner: Tensor) -> dict[str, Tensor]:
    """The settings of one step: (N, 1), or (N, P) where the tensors of a member differ; `lr` is that of the step.

    Args:
        values: (N, 1) or (N, T) each.
        owner: (P,) the number of the tensor that a coordinate belongs to.
    """
    found = {name: value[:, owner] if value.shape[1] > 1 else value for name, value in values.items()}
    return {**found, "lr": found["lr"] * found["lr_factor"]}


def lookahead_lr(values: Mapping[str, Tensor], shared: int) -> Tensor:
    """The learning rate (N, 1) by which a lookahead goes: the largest of the first `shared` tensors."""
    return values["lr"][:, :shared].amax(1, keepdim=True) * values["lr_factor"]
