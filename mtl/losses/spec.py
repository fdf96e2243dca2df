"""Reads a spec: the name of a loss, of ours, of torch or of anyone else, and its arguments."""

from __future__ import annotations

from typing import Any

from mtl.hyperparameters import check_said, defaults, read_pairs, show
from mtl.losses.foreign import foreign_loss
from mtl.losses.from_file import resolved
from mtl.losses.loss import Loss
from mtl.losses.registry import LOSSES
from mtl.losses.sums import APART, Sum, split_sum, sum_of, written_sum
from mtl.losses.torch_losses import is_torch, torch_loss, torch_names
from mtl.suggestions import listed, nearest

#: Other names of ours.
_ALSO = {"bce": "binary-cross-entropy", "l1": "mae"}


def make_loss(spec: str) -> Loss:
    """The loss that a spec names.

    Args:
        spec: `huber:delta=0.5` of ours, `SmoothL1Loss:beta=0.5` of torch.nn, `package.module:Class:arg=1` or
            `path.py:Name` of anyone else, or a weighed sum of them, `mae+0.1*path.py:Gradient`; with `apart:` before it
            a strategy weighs each part as a loss of its own. Or the file of one that was found or learned,
            `runs/a/losses/found/left.json`.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    apart, every = _apart(resolved(spec))
    weighed = split_sum(every)
    if apart and len(weighed) == 1:
        raise ValueError(f"loss {spec!r}: it has one part, and nothing to weigh it against: {APART}mae+mse has two")
    if len(weighed) == 1 and weighed[0][0] == 1:
        return _single(weighed[0][1])
    return sum_of([weight for weight, _ in weighed], [_single(part) for _, part in weighed], apart)


def in_full(spec: str) -> str:
    """A spec with all that it sets, at a default too, and with whole paths; `str(make_loss(spec))` drops defaults.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    spec = resolved(spec)
    make_loss(spec)
    apart, weighed = _apart(spec)
    parts = []
    for weight, part in written_sum(weighed):
        loss, given = _read(part)
        text = str(loss)
        usual = [f"{key}={show(value)}" for key, value in given.items() if value == defaults(loss)[key]]
        if usual:
            text += ("," if text != loss.name else ":") + ",".join(usual)
        parts.append(text if weight is None else f"{show(weight)}*{text}")
    return APART * apart + "+".join(parts)


def said(spec: str) -> set[str]:
    """The hyperparameters that a spec sets, by their names in `make_loss(spec)`."""
    spec = resolved(spec)
    loss, parts = make_loss(spec), written_sum(_apart(spec)[1])
    if not isinstance(loss, Sum):
        return set(_read(parts[0][1])[1])
    found = {f"weight{number}" for number, (weight, _) in enumerate(parts, 1) if weight is not None}
    for names, (_, part) in zip(loss.fields_of, parts, strict=True):
        given = _read(part)[1]
        found |= {here for here, key in names.items() if key in given}
    return found


def loss_class(name: str) -> type[Loss]:
    """The class of losses with this name: of ours, of torch.nn, or `package.module:Class` and `path.py:Name`.

    Raises:
        ValueError: there is none; the nearest names are said.
    """
    if (ours := _ALSO.get(name, name)) in LOSSES:
        return LOSSES[ours]
    if ":" in name:
        return foreign_loss(name)
    if is_torch(name):
        return torch_loss(name)
    if name.endswith(".py"):
        raise ValueError(f"loss {name!r}: it is a file, and FILE.py:NAME says which loss of it")
    raise ValueError(f"unknown loss {name!r}: {nearest(name, [*LOSSES, *torch_names()], listed('losses'))}")


def _apart(spec: str) -> tuple[bool, str]:
    """Whether the parts of a sum are weighed apart, and the sum."""
    return spec.lstrip().startswith(APART), spec.lstrip().removeprefix(APART)


def _single(spec: str) -> Loss:
    return _read(spec)[0]


def _read(spec: str) -> tuple[Loss, dict[str, Any]]:
    """A loss that is no sum, and the hyperparameters that its spec sets."""
    name, settings = _parted(spec.strip())
    cls = loss_class(name)
    if spec.rstrip().endswith(":"):
        check_said(settings, f"loss {spec!r}")
    given = read_pairs(cls, name, settings, f"loss {spec!r}")
    return cls(**given), given


def _parted(spec: str) -> tuple[str, str]:
    """The name and the arguments: the name of a foreign loss has a colon in it."""
    first, _, rest = spec.partition(":")
    if first in LOSSES or first in _ALSO or is_torch(first) or not rest or "=" in rest.partition(":")[0]:
        return first, rest
    second, _, settings = rest.partition(":")
    return f"{first}:{second}", settings
