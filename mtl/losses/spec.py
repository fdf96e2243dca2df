"""Reads a spec: the name of a loss, of ours, of torch or of anyone else, and its arguments."""

from __future__ import annotations

from mtl.hyperparameters import read_pairs
from mtl.losses.foreign import foreign_loss
from mtl.losses.loss import Loss
from mtl.losses.registry import LOSSES
from mtl.losses.sums import APART, split_sum, sum_of
from mtl.losses.torch_losses import is_torch, torch_loss, torch_names
from mtl.suggestions import nearest


def make_loss(spec: str) -> Loss:
    """The loss that a spec names.

    Args:
        spec: `huber:delta=0.5` of ours, `SmoothL1Loss:beta=0.5` of torch.nn, `package.module:Class:arg=1` or
            `path.py:Name` of anyone else, or a weighed sum of them, `mae+0.1*path.py:Gradient`; with `apart:` before it
            a strategy weighs each part as a loss of its own.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    apart = spec.lstrip().startswith(APART)
    weighed = split_sum(spec.lstrip().removeprefix(APART))
    if apart and len(weighed) == 1:
        raise ValueError(f"loss {spec!r}: it has one part, and nothing to weigh it against: {APART}mae+mse has two")
    if len(weighed) == 1 and weighed[0][0] == 1:
        return _single(weighed[0][1])
    return sum_of([weight for weight, _ in weighed], [_single(part) for _, part in weighed], apart)


def loss_class(name: str) -> type[Loss]:
    """The class of losses with this name: of ours, of torch.nn, or `package.module:Class` and `path.py:Name`.

    Raises:
        ValueError: there is none; the nearest names are said.
    """
    if name in LOSSES:
        return LOSSES[name]
    if ":" in name:
        return foreign_loss(name)
    if is_torch(name):
        return torch_loss(name)
    raise ValueError(f"unknown loss {name!r}: {nearest(name, [*LOSSES, *torch_names()])}")


def _single(spec: str) -> Loss:
    name, settings = _parted(spec.strip())
    cls = loss_class(name)
    return cls(**read_pairs(cls, name, settings, f"loss {spec!r}"))


def _parted(spec: str) -> tuple[str, str]:
    """The name and the arguments: the name of a foreign loss has a colon in it."""
    first, _, rest = spec.partition(":")
    if first in LOSSES or is_torch(first) or not rest or "=" in rest.partition(":")[0]:
        return first, rest
    second, _, settings = rest.partition(":")
    return f"{first}:{second}", settings
