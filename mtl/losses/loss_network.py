"""The small network that a learned loss is, as a pure function of its weights, and the weights from which it starts."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import jacrev, vmap

from mtl.losses.labels import elementwise, known
from mtl.losses.loss import Loss, Terms

_SHARPNESS, _LEAK = 10.0, 0.01  # of the smooth leaky ReLU
#: What labels and predictions are multiplied with, so that both span about one unit.
_OF_CLASSES, _OF_NUMBERS = (2.0, 0.1), (0.1, 1.0)
_SHIFT = 0.5  # spread of the biases at the start
_RIDGE = 1e-6
_HALVINGS = 80


def network_size(hidden: int) -> int:
    """The number of weights of a network with two hidden layers of that width."""
    return sum(_pieces(hidden))


def _pieces(hidden: int) -> list[int]:
    return [2 * hidden, hidden, hidden**2, hidden, hidden + 1]


def network_terms(weights: Tensor, hidden: int, prediction: Tensor, target: Tensor, *, numbers: bool) -> Terms:
    """The loss of each label under a network of two inputs, two hidden layers and one output.

    Of a number the inputs are the label and the error of the prediction. Of classes the network is asked for each
    class, with 1 or 0 as its label and the logarithm of its predicted probability, and its outputs are summed. A label
    that is yes or no has these two classes. Layers and sum are followed by the smooth leaky ReLU, so that a loss is
    hardly below zero.

    Args:
        weights: (network_size(hidden),).
        hidden: width of both hidden layers.
        prediction: numbers, or logits with one for each label, (N, 1) or (N, ...); logits of classes (N, ..., C).
        target: numbers (N, ...), those of yes or no in [0, 1]; classes (N, ...) of type int64.
        numbers: whether labels with one prediction each are numbers, rather than yes or no.
    """
    if elementwise(prediction, target):
        target = target.reshape(prediction.shape)
    with torch.autocast(prediction.device.type, enabled=False):  # which would multiply in half precision
        features = _summed(weights, hidden, prediction, target, numbers=numbers)
        return Terms(smooth_leaky(features @ weights[-hidden - 1 :].to(features.dtype)), known(target))


def _summed(weights: Tensor, hidden: int, prediction: Tensor, target: Tensor, *, numbers: bool) -> Tensor:
    """What the last layer weighs, summed over the classes of each label."""
    return _features(weights, hidden, *_inputs(prediction, target, numbers=numbers)).sum(-2)


def _inputs(prediction: Tensor, target: Tensor, *, numbers: bool) -> tuple[Tensor, Tensor]:
    """Labels and predictions (..., M) of the M classes of a label, or of the one number, as the network reads them."""
    by_label, by_prediction = _OF_NUMBERS if numbers else _OF_CLASSES
    if prediction.shape != target.shape:
        classes = torch.arange(prediction.shape[-1], device=prediction.device)
        label, predicted = (target[..., None] == classes).to(prediction.dtype), F.log_softmax(prediction, -1)
    else:
        rate = torch.where(known(target), target, 0).to(prediction.dtype)
        if numbers:
            label, predicted = rate[..., None], (prediction - rate)[..., None]
        else:
            label = torch.stack([rate, 1 - rate], -1)
            predicted = torch.stack([F.logsigmoid(prediction), F.logsigmoid(-prediction)], -1)
    return by_label * label, by_prediction * predicted


def _features(weights: Tensor, hidden: int, label: Tensor, predicted: Tensor) -> Tensor:
    """What the last layer weighs (..., hidden + 1): the second hidden layer, and 1 for the bias."""
    first, first_bias, second, second_bias, _ = weights.to(predicted.dtype).split(_pieces(hidden))
    below = smooth_leaky(torch.stack([label, predicted], -1) @ first.reshape(2, hidden) + first_bias)
    above = smooth_leaky(below @ second.reshape(hidden, hidden) + second_bias)
    return torch.cat([above, torch.ones_like(above[..., :1])], -1)


def smooth_leaky(values: Tensor) -> Tensor:
    """The smooth leaky ReLU (1 - g) log(1 + e^(b x)) / b + g x, with b = 10 and g = 0.01 as in AdaLFL."""
    return (1 - _LEAK) * F.softplus(values, beta=_SHARPNESS) + _LEAK * values


@functools.lru_cache(maxsize=32)
def weights_near(given: Loss, hidden: int) -> Tensor:
    """Weights (network_size(hidden),) in float64 with which a network is near a given loss, in value and in slope.

    The hidden layers are drawn at random, always the same for a width. The last one is the least-squares fit to the
    values and slopes of the given loss on made-up predictions and labels.

    Args:
        given: of kind `numbers`, `classes` or `yes or no`, with a term for each label.
        hidden: width of both hidden layers.
    """
    draw = torch.Generator().manual_seed(0)
    layers = torch.cat(
        [
            _normal(draw, 2 * hidden),
            _SHIFT * _normal(draw, hidden),
            _normal(draw, hidden**2) / math.sqrt(hidden),
            _SHIFT * _normal(draw, hidden),
        ]
    )
    weights, numbers = F.pad(layers, (0, hidden + 1)), given.kind == "numbers"

    def each(prediction: Tensor, target: Tensor) -> Tensor:
        return _summed(weights, hidden, prediction[None], target[None], numbers=numbers)[0]

    rows, wanted = [], []  # of a linear problem around the outputs at which the loss is the given one
    for prediction, target in _examples(given.kind, draw):
        leaf = prediction.clone().requires_grad_()
        values = given(leaf, target, "none").reshape(len(target))
        (slopes,) = torch.autograd.grad(values.sum(), leaf)
        outputs, bend = _before(values.detach())
        rows += [bend[:, None] * vmap(each)(prediction, target)]
        wanted += [bend * outputs]
        steep = vmap(jacrev(each))(prediction, target)  # (S, hidden + 1, ...)
        steep = bend.reshape(-1, *[1] * (steep.ndim - 1)) * steep
        rows += [steep.movedim(1, -1).reshape(-1, hidden + 1)]
        wanted += [slopes.flatten()]
    left, right = torch.cat(rows), torch.cat(wanted)
    normal = left.mT @ left
    ridge = _RIDGE * normal.diagonal().mean() * torch.eye(hidden + 1, dtype=normal.dtype)
    last = torch.linalg.solve(normal + ridge, left.mT @ right)
    return torch.cat([layers, last])


def random_weights(hidden: int) -> Tensor:
    """Weights (network_size(hidden),) in float64 that are drawn as torch draws those of linear layers.

    They are always the same for a width.
    """
    draw = torch.Generator().manual_seed(0)
    bounds = [1 / math.sqrt(inputs) for inputs in (2, 2, hidden, hidden, hidden)]
    pieces = [
        bound * (2 * torch.rand(size, dtype=torch.float64, generator=draw) - 1)
        for bound, size in zip(bounds, _pieces(hidden), strict=True)
    ]
    return torch.cat(pieces)


def _before(values: Tensor) -> tuple[Tensor, Tensor]:
    """Where the smooth leaky ReLU has these values, found by halving, and its slope there."""
    low, high = -values.abs() / _LEAK - 1, values.abs() + 1
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = smooth_leaky(middle) < values
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high, (1 - _LEAK) * torch.sigmoid(_SHARPNESS * high) + _LEAK


def _examples(kind: str, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Predictions and labels, one label an example: numbers of about one unit, and logits that are sure and unsure."""
    if kind == "numbers":
        labels = torch.linspace(-3, 3, 13, dtype=torch.float64).repeat_interleave(41)
        yield labels + torch.linspace(-4, 4, 41, dtype=torch.float64).repeat(13), labels
    elif kind == "yes or no":
        logits = torch.linspace(-12, 12, 121, dtype=torch.float64)
        for answer in (0.0, 1.0):
            yield logits, torch.full_like(logits, answer)
    else:
        for classes in (2, 5, 10):
            for spread in (0.5, 2.0, 5.0):
                logits = spread * _normal(draw, 60 * classes).reshape(60, classes)
                yield logits, torch.randint(0, classes, (60,), generator=draw)


def _normal(draw: torch.Generator, count: int) -> Tensor:
    return torch.randn(count, dtype=torch.float64, generator=draw)
