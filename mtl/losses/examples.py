"""Predictions and labels of each kind, made up, on which a loss can be tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from mtl.losses.labels import IGNORE

COUNT, WIDTH = 12, 4  # examples, and classes or labels of each
_SIDE = 8  # of a picture, few of which are enough
_SURE = 5.0  # a logit, or minus a log variance
Pair = tuple[Tensor, Tensor]


def _numbers(draw: Generator) -> Pair:
    return _normal(draw, COUNT, 1), _normal(draw, COUNT)


def _several(draw: Generator) -> Pair:
    return _normal(draw, COUNT, WIDTH), _normal(draw, COUNT, WIDTH)


def _signs(draw: Generator) -> Pair:
    prediction, target = _binary(draw)
    return prediction, 2 * target - 1


def _counts(draw: Generator) -> Pair:
    return _normal(draw, COUNT, 1), torch.poisson(2 + torch.zeros(COUNT, dtype=torch.float64), generator=draw)


def _binary(draw: Generator) -> Pair:
    return _normal(draw, COUNT, WIDTH), _ints(draw, 2, COUNT, WIDTH).double()


def _classes(draw: Generator) -> Pair:
    return _normal(draw, COUNT, WIDTH), _ints(draw, WIDTH, COUNT)


def _log_probabilities(draw: Generator) -> Pair:
    prediction, target = _classes(draw)
    return prediction.log_softmax(-1), target


def _mean_and_variance(draw: Generator) -> Pair:
    return _normal(draw, COUNT, 2), _normal(draw, COUNT)


def _depth(draw: Generator) -> Pair:
    return _normal(draw, COUNT, WIDTH), _normal(draw, COUNT, WIDTH).exp()


def _pictures(draw: Generator) -> Pair:
    return _normal(draw, 3, _SIDE, _SIDE, 1), _normal(draw, 3, _SIDE, _SIDE)


def _embeddings(draw: Generator) -> Pair:
    return _normal(draw, COUNT, WIDTH), _ints(draw, 3, COUNT)


KINDS: Mapping[str, Callable[[Generator], Pair]] = MappingProxyType(
    {
        "numbers": _numbers,
        "classes": _classes,
        "log probabilities": _log_probabilities,
        "yes or no": _binary,
        "signs": _signs,
        "counts": _counts,
        "mean and variance": _mean_and_variance,
        "depth": _depth,
        "directions": _several,
        "teacher": _several,
        "pictures": _pictures,
        "embeddings": _embeddings,
    }
)


def example(kind: str, seed: int = 0) -> Pair:
    """Predictions and labels of a kind, in float64; whole numbers are int64. No class and no answer is lacking.

    Args:
        kind: of `KINDS`.
        seed: of what is drawn.
    """
    prediction, target = KINDS[kind](torch.Generator().manual_seed(seed))
    if kind in ("classes", "log probabilities"):
        target[:WIDTH] = torch.arange(WIDTH)
    if kind in ("yes or no", "signs"):
        target[0], target[1] = 0 if kind == "yes or no" else -1, 1
    return prediction, target


def right(kind: str, target: Tensor, like: Tensor) -> Tensor:
    """Predictions that say what the labels say, and are sure of it.

    Args:
        kind: of `KINDS`.
        target: labels, none missing.
        like: predictions, for their shape.
    """
    if kind in ("classes", "log probabilities", "embeddings"):
        sure = _SURE * torch.nn.functional.one_hot(target, like.shape[-1]).to(like.dtype)
        return sure.log_softmax(-1) if kind == "log probabilities" else sure
    if kind == "yes or no":
        return _SURE * (2 * target - 1)
    if kind == "signs":
        return _SURE * target
    if kind in ("counts", "depth"):
        return target.clamp(min=0.1).log().reshape(like.shape)
    if kind == "mean and variance":
        return torch.stack([target, torch.full_like(target, -_SURE)], -1)
    return target.reshape(like.shape)


def with_missing(target: Tensor, rows: Tensor | slice) -> Tensor:
    """The labels with those at `rows` missing."""
    found = target.clone()
    found[rows] = torch.nan if target.is_floating_point() else IGNORE
    return found


def _normal(draw: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=draw)


def _ints(draw: Generator, high: int, *shape: int) -> Tensor:
    return torch.randint(0, high, shape, generator=draw)
