"""Weights of classes from the training labels: rare classes count more.

Each has the mean 1 over the training labels, so that the scale of the loss, and with it the learning rate, stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from mtl.losses.labels import known

BETA = 0.999  # of the effective number; Cui et al. try 0.9 to 0.9999
NONE = "none"

#: Hyperparameters that may be a word, and the words that need the training labels.
UNRESOLVED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "class_weights": ("inverse", "effective"),
        "positive_weight": ("inverse",),
        "positive_weights": ("inverse",),
        "priors": ("training",),
        "data_range": ("labels",),
    }
)


def class_counts(target: Tensor, classes: int) -> Tensor:
    """How many labels each class has, (classes,)."""
    return torch.bincount(target[known(target)].flatten().long(), minlength=classes).double()


def inverse(counts: Tensor) -> Tensor:
    """Weights proportional to 1 / count: every class weighs the same in all. Equals scikit-learn's `balanced`.

    Args:
        counts: of each class (C,), all above zero.
    """
    return _mean_one(1 / counts, counts)


def effective(counts: Tensor, beta: float = BETA) -> Tensor:
    """Weights proportional to 1 / effective number of examples, (1 - beta^n) / (1 - beta).

    Source: Cui et al., CVPR 2019, eq. 2.

    A large class stops gaining at about 1 / (1 - beta) examples, for further ones resemble those that are there.

    Args:
        counts: of each class (C,), all above zero.
        beta: 0 gives equal weights; towards 1 they become those of `inverse`.
    """
    # -expm1(n log beta) is 1 - beta^n without rounding.
    numbers = -torch.expm1(counts * torch.log(counts.new_tensor(beta))) / (1 - beta)
    return _mean_one(1 / numbers, counts)


def _mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    return weights * counts.sum() / (weights * counts).sum()


def resolved(name: str, key: str, word: str, target: Tensor, outputs: int, classes: bool) -> float | tuple[float, ...]:
    """What a word stands for, by the training labels.

    Args:
        name: of the loss, for messages.
        key: of the hyperparameter.
        word: of `UNRESOLVED`.
        target: labels of the training split (N, ...).
        outputs: width of the head.
        classes: whether the labels are classes; otherwise each is in [0, 1].

    Raises:
        ValueError: a class, or one side of a label, has no example.
    """
    if key in ("positive_weight", "positive_weights"):
        rows = target.flatten(1) if key == "positive_weights" and target.ndim > 1 else target.reshape(-1, 1)
        labels = torch.where(known(rows), rows, 0).double()
        positive = labels.sum(0)
        negative = known(rows).sum(0) - positive
        for place, (yes, no) in enumerate(zip(positive.tolist(), negative.tolist(), strict=True)):
            if not (yes and no):
                which = f" {place}" if len(positive) > 1 else ""
                raise ValueError(
                    f"{name}: {key}={word}: label{which} has {yes:g} positive and {no:g} negative training examples; "
                    "give a number"
                )
        ratios = tuple(_short(negative / positive))
        return ratios if key == "positive_weights" else ratios[0]
    if not classes:
        raise ValueError(f"{name}: {key}={word}: the labels are not classes with an output each")
    counts = class_counts(target, outputs)
    if len(lacking := (counts == 0).nonzero()[:, 0]):
        raise ValueError(
            f"{name}: {key}={word}: class {int(lacking[0])} has no training example; give numbers joined by /"
        )
    if word == "training":
        return tuple(_short(counts / counts.sum()))
    return tuple(_short(inverse(counts) if word == "inverse" else effective(counts)))


def _short(values: Tensor) -> list[float]:
    """Rounded to six digits, as they are recorded."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def weights_of(given: tuple[float, ...] | str | Tensor, target: Tensor, like: Tensor) -> Tensor | None:
    """The weight of each label (N, ...) by its class, of the first where the label is missing; None for none."""
    if isinstance(given, str):
        assert given == NONE  # what is not decided yet is refused before
        return None
    each = given if isinstance(given, Tensor) else torch.tensor(given, dtype=like.dtype, device=like.device)
    places = target.clamp(min=0).reshape(-1)
    return each.to(like.dtype).gather(0, places).reshape(target.shape)


def wrong_length(given: tuple[float, ...] | str | Tensor, wanted: int, key: str) -> str | None:
    """What to complain about where there are not as many numbers as classes or labels, or None."""
    if isinstance(given, str) or len(given) == wanted:
        return None
    return f"has {len(given)} numbers in {key}: {wanted} are wanted, one for each of the outputs"
