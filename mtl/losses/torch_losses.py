"""The losses of `torch.nn` by their own names and arguments: `SmoothL1Loss:beta=0.5`.

They get what they expect: class logits with the classes on the second axis, several inputs as pieces of one prediction.
Missing labels are left out one by one where torch gives a loss for each label.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.hyperparameters import Domain
from mtl.losses.by_class import ONE_LOGIT, not_by_class, not_logarithms
from mtl.losses.labels import IGNORE, classes_second, known, numbers
from mtl.losses.loss import Terms, widened
from mtl.losses.one_each import negative, not_a_share, not_one_each
from mtl.losses.wrapped import Wrapped, same_dtype, wrapper

_BY_CLASS = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
_EACH = (
    *("BCELoss", "BCEWithLogitsLoss", "HuberLoss", "L1Loss", "MSELoss", "PoissonNLLLoss", "SmoothL1Loss"),
    *("SoftMarginLoss", "HingeEmbeddingLoss", "KLDivLoss"),
)
#: Losses of several inputs: into how many pieces the prediction is cut, and on which axis.
_PIECES = {
    "CosineEmbeddingLoss": (2, 1),
    "MarginRankingLoss": (2, 1),
    "TripletMarginLoss": (3, 1),
    "TripletMarginWithDistanceLoss": (3, 1),
    "GaussianNLLLoss": (2, -1),
}
_SIGNS = ("CosineEmbeddingLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "SoftMarginLoss")
#: Losses whose mean is divided by the sum of the labels' weights, so that of class weights only ratios count.
_WEIGHED = ("CrossEntropyLoss", "NLLLoss")
#: What torch takes of an argument, and says only when the loss is computed, or not at all.
_BOUNDS: Mapping[str, Mapping[str, Domain]] = {
    "CrossEntropyLoss": {"label_smoothing": Domain(0.0, 1.0)},
    "HuberLoss": {"delta": Domain(0.0, above=True)},
    "MultiMarginLoss": {"p": Domain(1.0, 2.0)},
    "SmoothL1Loss": {"beta": Domain(0.0)},
    "TripletMarginLoss": {"margin": Domain(0.0, above=True)},
    "TripletMarginWithDistanceLoss": {"margin": Domain(0.0, above=True)},
}
_SHARES = ("BCELoss", "BCEWithLogitsLoss", "MultiLabelSoftMarginLoss")
#: The kind of examples on which one can be tested, where others would run too.
_KINDS = {
    "BCELoss": "probabilities",
    "BCEWithLogitsLoss": "yes or no",
    "CosineEmbeddingLoss": "pairs",
    "CrossEntropyLoss": "classes",
    "GaussianNLLLoss": "mean and plain variance",
    "HingeEmbeddingLoss": "distances",
    "HuberLoss": "numbers",
    "KLDivLoss": "distributions",
    "L1Loss": "numbers",
    "MSELoss": "numbers",
    "MarginRankingLoss": "rankings",
    "MultiLabelMarginLoss": "lists of classes",
    "MultiLabelSoftMarginLoss": "yes or no",
    "MultiMarginLoss": "classes",
    "NLLLoss": "log probabilities",
    "PoissonNLLLoss": "counts",
    "SmoothL1Loss": "numbers",
    "SoftMarginLoss": "signs",
    "TripletMarginLoss": "triplets",
    "TripletMarginWithDistanceLoss": "triplets",
}
_NOT = {
    "CTCLoss": "it needs the lengths of inputs and labels",
    "AdaptiveLogSoftmaxWithLoss": "it has parameters of its own, which nothing would train",
    "LinearCrossEntropyLoss": "it has parameters of its own, which nothing would train",
    "NLLLoss2d": "NLLLoss takes the same",
}


@dataclass(frozen=True)
class OfTorch(Wrapped):
    """A loss of `torch.nn`. Means, sums and single terms agree with torch where no label is missing."""

    torch_name: ClassVar[str]

    @property
    def examples(self) -> str:
        return _KINDS.get(self.torch_name, "")

    def __call__(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        name = self.torch_name
        prediction, target = same_dtype(widened(prediction), target)
        made: Any = self.wraps(**self._settings(prediction), reduction=reduction)
        if name in _PIECES:
            return self._of_pieces(made, prediction, target, reduction)
        if name in _BY_CLASS:
            return self._of_classes(made, prediction, target, reduction)
        if name in _EACH and target.numel() == prediction.numel():
            made.reduction = "none"
            labels = numbers(target, prediction.dtype).reshape(prediction.shape)
            there = known(labels)
            each = made(prediction, torch.where(there, labels, 0.5).to(prediction.dtype))
            return Terms(each, there).reduced(reduction)
        return made(prediction, target)  # type: ignore[no-any-return]

    def _settings(self, like: Tensor) -> dict[str, Any]:
        return {
            key: value.to(like.device, like.dtype) if isinstance(value, Tensor) else value
            for key, value in self.settings().items()
        }

    def _of_classes(self, made: Any, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        prediction = classes_second(prediction, target)
        if self.torch_name != "MultiMarginLoss":  # torch itself leaves out labels of -100
            return made(prediction, target)  # type: ignore[no-any-return]
        made.reduction = "none"
        return Terms(made(prediction, target.clamp(min=0)), target != IGNORE).reduced(reduction)

    def _of_pieces(self, made: Any, prediction: Tensor, target: Tensor, reduction: str) -> Tensor:
        count, axis = _PIECES[self.torch_name]
        pieces = prediction.unbind(axis)
        if len(pieces) != count:
            raise ValueError(f"an example's outputs must have {count} pieces on axis {axis}: here are {len(pieces)}")
        if count == 3:  # what is near and what is far stands in the prediction itself
            return made(*pieces)  # type: ignore[no-any-return]
        made.reduction, there = "none", known(target)
        labels = torch.where(there, numbers(target, prediction.dtype), 1.0)
        first, second = pieces
        of_gaussian = self.torch_name == "GaussianNLLLoss"
        each = made(first, labels, second) if of_gaussian else made(first, second, labels)
        return Terms(each, there).reduced(reduction)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        if self.torch_name in _BY_CLASS and not target.is_floating_point():
            moved = prediction
            if prediction.ndim > 2 and (prediction.shape[:1] + prediction.shape[2:])[1:] == target.shape[1:]:
                moved = prediction.movedim(1, -1)
            if said := not_by_class(moved, target, ONE_LOGIT):
                return said
            if self.torch_name == "NLLLoss" and (said := not_logarithms(moved)):
                return said
        if self.torch_name in _SIGNS and len(wrong := target[known(target) & (target.abs() != 1)]):
            return f"takes labels 1 and -1, as torch has it: here is {wrong[0].item():g}"
        if self.torch_name in _SHARES and (said := not_a_share(target)):
            return said
        if self.torch_name in _EACH and (said := not_one_each(prediction, target)):
            return said
        if self.torch_name == "PoissonNLLLoss" and (said := negative(target)):
            return said
        return super().complaint(prediction, target)

    def impurity(self, prediction: Tensor, target: Tensor) -> str | None:  # noqa: ARG002
        return None

    def by_class(self, target: Tensor, outputs: int) -> bool:
        if self.torch_name in _BY_CLASS:
            return not target.is_floating_point()
        return False if self.torch_name in _EACH else super().by_class(target, outputs)


def torch_names() -> list[str]:
    """The losses of `torch.nn` that take a prediction and a label."""
    named = [name for name in dir(nn) if name.endswith("Loss") and inspect.isclass(getattr(nn, name))]
    return [name for name in named if name not in _NOT]


def is_torch(name: str) -> bool:
    """Whether `torch.nn` has a loss of this name."""
    return name in torch_names() or (name in _NOT and hasattr(nn, name))


@functools.cache
def torch_loss(name: str) -> type[Wrapped]:
    """The class of losses around the one of `torch.nn` with this name.

    Raises:
        ValueError: a loss that does not take a prediction and a label.
    """
    if name in _NOT:
        raise ValueError(f"loss {name!r} of torch.nn cannot be the loss of a task: {_NOT[name]}")
    about = f"`torch.nn.{name}`, by its own arguments."
    ratios = ("weight",) if name in _WEIGHED else ()
    made = wrapper(name, getattr(nn, name), torch_loss, OfTorch, about, ratios, _BOUNDS.get(name, {}))
    made.torch_name = name  # type: ignore[attr-defined]
    return made
