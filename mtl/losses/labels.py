"""Labels: which of them are missing, and how they pair with predictions.

A missing number is NaN, a missing whole number is `IGNORE`; an example may lack some of its labels or all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = -100  # a missing label among whole numbers
_UNSIGNED = (torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def known(target: Tensor) -> Tensor:
    """Which labels are there, element by element; all of those whose type has no number below 0."""
    if target.dtype in _UNSIGNED:  # compared with one of them, -100 is 156
        return torch.ones_like(target, dtype=torch.bool)
    return ~target.isnan() if target.is_floating_point() else target != IGNORE


def numbers(target: Tensor, dtype: torch.dtype) -> Tensor:
    """Labels as numbers of `dtype`, the missing ones NaN; floating-point labels stay as they are."""
    if target.is_floating_point():
        return target
    return torch.where(known(target), target.to(dtype), torch.nan)


def elementwise(prediction: Tensor, target: Tensor) -> bool:
    """Whether there is one prediction for each label, rather than one for each class that a label may have."""
    return prediction.shape[:1] == target.shape[:1] and prediction.numel() == target.numel()


def classes_last(prediction: Tensor, target: Tensor) -> Tensor:
    """Predictions with the classes of each label on the last axis, which convolutions give on the second one.

    Where both fit, as for 5 classes of 5 words, the classes are on the last axis already.
    """
    if prediction.ndim != target.ndim + 1 or prediction.shape[1:-1] == target.shape[1:]:
        return prediction
    return prediction.movedim(1, -1) if prediction.shape[2:] == target.shape[1:] else prediction


def classes_second(prediction: Tensor, target: Tensor) -> Tensor:
    """Predictions with the classes of each label on the second axis, as torch and other libraries want them."""
    if target.is_floating_point() or target.ndim < 2 or prediction.shape[:-1] != target.shape:
        return prediction
    return prediction.movedim(-1, 1)


def by_class(target: Tensor, outputs: int) -> bool:
    """Whether the labels are classes that have an output each, told from the labels (N, ...) and the head's width.

    Whole numbers are classes where the head has several outputs, unless these are one for each label of an example.
    """
    several = target.ndim > 1 and target[:1].numel() == outputs
    return not target.is_floating_point() and outputs > 1 and not several


def versions(prediction: Tensor, target: Tensor) -> tuple[int, int]:
    """Counters that rise where somebody changes what is in the tensors; tensors of inference mode have none."""
    first, second = (0 if each.is_inference() else each._version for each in (prediction, target))
    return first, second


def changed(before: tuple[int, int], prediction: Tensor, target: Tensor) -> str | None:
    """What to complain about where a loss has changed what it was given, or None.

    Metrics are computed from the same predictions and labels after it, and labels are read again in the next epoch.
    """
    now = versions(prediction, target)
    which = [name for name, old, new in zip(("predictions", "labels"), before, now, strict=True) if new != old]
    return f"changes its {' and '.join(which)} in place, which others read after it: change a copy" if which else None
