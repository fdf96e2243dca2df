"""Predictions and labels of each kind, made up, on which a loss can be tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from mtl.losses.labels import IGNORE

COUNT, WIDTH = 12, 4  # examples, and classes or labels of each
_SIDE = 8  # of a picture, few of which are enough
_SURE = 5.0  # a logit, a distance, or minus a log variance
_END = -1  # of a list of classes
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Kind:
    """A kind of predictions and labels.

    Attributes:
        drawn: predictions and labels at random, of so many classes or labels of each where there are several.
        right: predictions that say what the labels say, from the labels and from predictions of that shape.
        admitted: the predictions nearest to any numbers that a model of this kind can make.
    """

    drawn: Callable[[Generator, int], Pair]
    right: Callable[[Tensor, Tensor], Tensor] = lambda target, like: target.reshape(like.shape)
    admitted: Callable[[Tensor], Tensor] = lambda prediction: prediction


def _numbers(draw: Generator, width: int) -> Pair:  # noqa: ARG001
    return _normal(draw, COUNT, 1), _normal(draw, COUNT)


def _several(draw: Generator, width: int) -> Pair:
    return _normal(draw, COUNT, width), _normal(draw, COUNT, width)


def _distributions(draw: Generator, width: int) -> Pair:
    prediction, target = _several(draw, width)
    return prediction.log_softmax(-1), target.softmax(-1)


def _counts(draw: Generator, width: int) -> Pair:  # noqa: ARG001
    return _normal(draw, COUNT, 1), torch.poisson(2 + torch.zeros(COUNT, dtype=torch.float64), generator=draw)


def _logarithms(target: Tensor, like: Tensor) -> Tensor:
    return target.clamp(min=0.1).log().reshape(like.shape)


def _binary(draw: Generator, width: int) -> Pair:
    prediction, target = _normal(draw, COUNT, width), _ints(draw, 2, COUNT, width).double()
    target[0], target[1] = 0, 1
    return prediction, target


def _probabilities(draw: Generator, width: int) -> Pair:
    prediction, target = _binary(draw, width)
    return prediction.sigmoid(), target


def _logits(target: Tensor, _: Tensor) -> Tensor:
    return _SURE * (2 * target - 1)


def _signs(draw: Generator, width: int) -> Pair:
    prediction, target = _binary(draw, width)
    return prediction, 2 * target - 1


def _distances(draw: Generator, width: int) -> Pair:
    prediction, target = _signs(draw, width)
    return prediction.abs(), target


def _classes(draw: Generator, width: int) -> Pair:
    count = max(COUNT, 2 * width)
    prediction, target = _normal(draw, count, width), _ints(draw, width, count)
    target[:width] = torch.arange(width)
    return prediction, target


def _log_probabilities(draw: Generator, width: int) -> Pair:
    prediction, target = _classes(draw, width)
    return prediction.log_softmax(-1), target


def _class_logits(target: Tensor, like: Tensor) -> Tensor:
    return _SURE * torch.nn.functional.one_hot(target, like.shape[-1]).to(like.dtype)


def _lists_of_classes(draw: Generator, width: int) -> Pair:
    prediction, last = _classes(draw, width)
    target = torch.stack([torch.randperm(width, generator=draw) for _ in range(len(last))])
    return prediction, torch.where(torch.arange(width) <= last[:, None], target, _END)


def _listed(target: Tensor, like: Tensor) -> Tensor:
    there = (target[..., None] == torch.arange(like.shape[-1])).any(1)
    return _logits(there.to(like.dtype), like)


def _mean_and_variance(draw: Generator, width: int) -> Pair:  # noqa: ARG001
    return _normal(draw, COUNT, 2), _normal(draw, COUNT)


def _mean_and_plain_variance(draw: Generator, width: int) -> Pair:
    prediction, target = _mean_and_variance(draw, width)
    return torch.stack([prediction[:, 0], prediction[:, 1].exp()], -1), target


def _not_below_zero(prediction: Tensor) -> Tensor:
    """With variances, which stand beside the means, that are none below 0."""
    return torch.stack([prediction[..., 0], prediction[..., 1].clamp(min=0)], -1)


def _depth(draw: Generator, width: int) -> Pair:
    return _normal(draw, COUNT, width), _normal(draw, COUNT, width).exp()


def _pictures(draw: Generator, width: int) -> Pair:  # noqa: ARG001
    return _normal(draw, 3, _SIDE, _SIDE, 1), _normal(draw, 3, _SIDE, _SIDE)


def _embeddings(draw: Generator, width: int) -> Pair:
    return _normal(draw, COUNT, width), _ints(draw, 3, COUNT)


def _pairs(draw: Generator, width: int) -> Pair:
    return _normal(draw, COUNT, 2, width), _signs(draw, width)[1][:, 0]


def _rankings(draw: Generator, width: int) -> Pair:
    return _normal(draw, COUNT, 2), _signs(draw, width)[1][:, 0]


def _triplets(draw: Generator, width: int) -> Pair:
    return _normal(draw, COUNT, 3, width), torch.zeros(COUNT, dtype=torch.float64)  # no label says more


#: Those of which the first that runs is taken, where a loss does not say its own.
USUAL: Mapping[str, Kind] = MappingProxyType(
    {
        "numbers": Kind(_numbers),
        "classes": Kind(_classes, _class_logits),
        "log probabilities": Kind(
            _log_probabilities,
            lambda target, like: _class_logits(target, like).log_softmax(-1),
            lambda prediction: prediction.log_softmax(-1),
        ),
        "yes or no": Kind(_binary, _logits),
        "signs": Kind(_signs, lambda target, _: _SURE * target),
        "counts": Kind(_counts, _logarithms),
        "mean and variance": Kind(
            _mean_and_variance, lambda target, _: torch.stack([target, torch.full_like(target, -_SURE)], -1)
        ),
        "depth": Kind(_depth, _logarithms),
        "directions": Kind(_several),
        "teacher": Kind(_several),
        "pictures": Kind(_pictures),
        "embeddings": Kind(_embeddings, _class_logits),
        "probabilities": Kind(
            _probabilities,
            lambda target, like: _logits(target, like).sigmoid(),
            lambda prediction: prediction.clamp(0, 1),
        ),
    }
)
_OF_TORCH: Mapping[str, Kind] = MappingProxyType(
    {
        "distributions": Kind(
            _distributions, lambda target, _: target.log(), lambda prediction: prediction.log_softmax(-1)
        ),
        "distances": Kind(
            _distances, lambda target, _: _SURE * (1 - target) / 2, lambda prediction: prediction.clamp(min=0)
        ),
        "mean and plain variance": Kind(
            _mean_and_plain_variance,
            lambda target, _: torch.stack([target, torch.full_like(target, -_SURE).exp()], -1),
            _not_below_zero,
        ),
        "rankings": Kind(_rankings, lambda target, _: _SURE * torch.stack([target, -target], -1)),
        "pairs": Kind(_pairs, lambda target, like: torch.stack([like[:, 0], target[:, None] * like[:, 0]], 1)),
        "triplets": Kind(_triplets, lambda _, like: torch.stack([like[:, 0], like[:, 0], like[:, 0] + _SURE], 1)),
        "lists of classes": Kind(_lists_of_classes, _listed),
    }
)

#: All kinds by name.
KINDS: Mapping[str, Kind] = MappingProxyType({**USUAL, **_OF_TORCH})


def example(kind: str, seed: int = 0, width: int = WIDTH) -> Pair:
    """Predictions and labels of a kind, in float64; whole numbers are int64. No class and no answer is lacking.

    Args:
        kind: of `KINDS`.
        seed: of what is drawn.
        width: classes, or labels of each example, where the kind has several.
    """
    return KINDS[kind].drawn(torch.Generator().manual_seed(seed), width)


def with_missing(target: Tensor, rows: Tensor | slice) -> Tensor:
    """The labels with those at `rows` missing."""
    found = target.clone()
    found[rows] = torch.nan if target.is_floating_point() else IGNORE
    return found


def _normal(draw: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=draw)


def _ints(draw: Generator, high: int, *shape: int) -> Tensor:
    return torch.randint(0, high, shape, generator=draw)
