"""Several losses of one task in one: `mae+0.1*cosine`, or `apart:mae+0.1*cosine` for a strategy to weigh."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mtl.hyperparameters import declares, defaults, domains, hyper, show
from mtl.losses.loss import Loss, Terms

#: Begins the spec of a sum whose parts a strategy weighs as losses of their own.
APART = "apart:"

_SEARCH = (0.01, 10.0)
_BELOW = re.compile(r"\s*(?P<weight>-[0-9.]+(?:e[+-]?[0-9]+)?)\s*\*", re.IGNORECASE)
_TERM = re.compile(r"\s*(?:(?P<weight>[0-9.]+(?:e[+-]?[0-9]+)?)\s*\*\s*)?(?P<spec>.+?)\s*", re.IGNORECASE)
_PLUS = re.compile(r"(?<![0-9.][eE])\+")  # not that of 1e+3


@dataclass(frozen=True)
class Sum(Loss):
    """A weighed sum of losses of the same prediction and label.

    The weights are the hyperparameters `weight1`, `weight2` and so on; those of the losses have the loss's name before
    theirs, such as `huber_delta`.

    A strategy weighs the sum as one loss, or, if it is made so, each part with its weight as a loss of its own. What
    the sum itself is, on validation data and for a single task, is the same for both.
    """

    parts: ClassVar[tuple[type[Loss], ...]]
    #: For each part, its own hyperparameters by their names here.
    fields_of: ClassVar[tuple[dict[str, str], ...]]

    def __post_init__(self) -> None:
        super().__post_init__()
        for number, name in enumerate(self.apart, 1):
            if not _positive(weight := getattr(self, f"weight{number}")):
                raise ValueError(f"{self.name}: weight{number}={weight:g} of {name} must be above 0 to be weighed")
        for _, part in self.weighed:
            if part.learns:
                raise ValueError(
                    f"{self.name}: {part} learns, which it cannot as a part of a sum: give it rate=0, offline_steps=0"
                )

    @functools.cached_property  # asked for several times a step
    def weighed(self) -> Sequence[tuple[Any, Loss]]:
        """Each part with its weight, both as the hyperparameters say."""
        found = []
        for number, (part, names) in enumerate(zip(self.parts, self.fields_of, strict=True), 1):
            values = {key: getattr(self, here) for here, key in names.items()}
            found.append((getattr(self, f"weight{number}"), part(**values)))
        return found

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        every = [(weight, part.terms(prediction, target)) for weight, part in self.weighed]
        shapes = {tuple(terms.values.shape) for _, terms in every}
        if len(shapes) > 1:
            raise ValueError(
                f"{self.name}: its parts have no terms in common, of shapes {sorted(shapes)}: take the mean"
            )
        there = every[0][1].there
        for _, terms in every[1:]:
            there = there & terms.there
        return Terms(sum(weight * terms.values for weight, terms in every), there)

    def __call__(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """The sum of the parts' own means or sums; `none` where they have terms of one shape."""
        self.check_decided()
        if reduction == "none":
            return super().__call__(prediction, target, reduction)
        each = self._each(prediction, target, reduction)
        return sum(each[1:], each[0])

    def each(self, prediction: Tensor, target: Tensor) -> list[Tensor]:
        """The means of the parts, each times its weight, if they are weighed apart; otherwise of the sum."""
        self.check_decided()
        return self._each(prediction, target, "mean") if self.apart else super().each(prediction, target)

    def _each(self, prediction: Tensor, target: Tensor, reduction: str) -> list[Tensor]:
        return [weight * part(prediction, target, reduction) for weight, part in self.weighed]

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        for _, part in self.weighed:
            if said := part.complaint(prediction, target):
                return f"cannot take {part.name}: it {said}"
        return None

    def impurity(self, prediction: Tensor, target: Tensor) -> str | None:
        for _, part in self.weighed:
            if said := part.impurity(prediction, target):
                return f"cannot take {part.name}: it {said}"
        return None

    def fitted(self, target: Tensor, outputs: int) -> Loss:
        values: dict[str, Any] = {}
        for (_, part), names in zip(self.weighed, self.fields_of, strict=True):
            made = part.fitted(target, outputs)
            values |= {here: getattr(made, key) for here, key in names.items()}
        return dataclasses.replace(self, **values)

    def undecided(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for _, part in self.weighed:
            found |= part.undecided()
        return found

    def by_class(self, target: Tensor, outputs: int) -> bool:
        return any(part.by_class(target, outputs) for _, part in self.weighed)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        """That of the first part."""
        return self.weighed[0][1].constant(target, outputs)

    def __str__(self) -> str:
        every = "+".join(f"{show(weight)}*{part}" if weight != 1 else str(part) for weight, part in self.weighed)
        return f"{APART}{every}" if self.apart else every

    def __reduce__(self) -> tuple[Any, ...]:
        weights, parts = zip(*self.weighed, strict=True)
        return sum_of, (weights, parts, bool(self.apart))


def _positive(weight: Any) -> bool:
    return isinstance(weight, Tensor) or weight > 0  # a member's own weight, in a population, was a number before


def split_sum(spec: str) -> list[tuple[float, str]]:
    """The weights and specs of a sum; one of weight 1 for a single loss.

    Raises:
        ValueError: a part is empty, or a weight cannot be read.
    """
    return [(1.0 if weight is None else weight, part) for weight, part in written_sum(spec)]


def written_sum(spec: str) -> list[tuple[float | None, str]]:
    """The same, with None for a weight that is not written.

    Raises:
        ValueError: a part is empty, or a weight cannot be read.
    """
    found = []
    for piece in _PLUS.split(spec):
        match = _TERM.fullmatch(piece)
        if match is None:
            raise ValueError(f"loss {spec!r}: a part of the sum is empty")
        if (below := _BELOW.match(piece)) is not None:
            raise ValueError(f"loss {spec!r}: the weight {below['weight']} must be at least 0")
        try:
            found.append((float(match["weight"]) if match["weight"] else None, match["spec"]))
        except ValueError:
            raise ValueError(f"loss {spec!r}: the weight {match['weight']!r} is not a number") from None
    return found


def sum_of(weights: Sequence[float], parts: Sequence[Loss], apart: bool = False) -> Sum:
    """The sum of `parts`, as a loss whose hyperparameters are all of theirs and the weights.

    Args:
        weights: of the parts.
        parts: at least one.
        apart: whether a strategy weighs each part as a loss of its own.
    """
    cls = _sum_class(tuple(type(part) for part in parts), apart)
    values: dict[str, Any] = {f"weight{number}": float(weight) for number, weight in enumerate(weights, 1)}
    for part, names in zip(parts, cls.fields_of, strict=True):
        values |= {here: getattr(part, key) for here, key in names.items()}
    return cls(**values)


@functools.cache  # sums of the same losses have one class, so that a population can hold them together
def _sum_class(parts: tuple[type[Loss], ...], apart: bool) -> type[Sum]:
    fields: list[tuple[str, Any, Any]] = []
    names: list[dict[str, str]] = []
    words = _words(parts)
    for number, (part, prefix) in enumerate(zip(parts, words, strict=True), 1):
        search = None if number == 1 else _SEARCH  # of weights only ratios matter
        about = f"weight of {part.name}"
        fields.append((f"weight{number}", float, hyper(1.0, 0.0, search=search, log=True, doc=about)))
        usual, types = defaults(part), typing.get_type_hints(part)
        names.append({f"{prefix}_{key}": key for key in usual})
        for key, domain in domains(part).items():
            fields.append(
                (f"{prefix}_{key}", types[key], dataclasses.field(default=usual[key], metadata=declares(domain)))
            )
    made = dataclasses.make_dataclass("Sum", fields, bases=(Sum,), frozen=True, kw_only=True)
    made.name = APART * apart + "+".join(part.name for part in parts)  # type: ignore[attr-defined]
    made.apart = tuple(words) if apart else ()  # type: ignore[attr-defined]
    made.parts, made.fields_of = parts, tuple(names)  # type: ignore[attr-defined]
    made.takes_tensors = all(getattr(part, "takes_tensors", True) for part in parts)  # type: ignore[attr-defined]
    made.kind = _kind(parts)  # type: ignore[attr-defined]
    made.__doc__ = f"The weighed sum of {', '.join(part.name for part in parts)}."
    return made


def _kind(parts: Sequence[type[Loss]]) -> str:
    """Of the predictions and labels that all parts take; pictures are numbers too."""
    kinds = [part.kind for part in parts if part.kind]
    return next((kind for kind in kinds if kind == "pictures"), kinds[0] if kinds else "")


def _words(parts: Sequence[type[Loss]]) -> list[str]:
    """A name for each part, with its number where two are of one loss."""
    words = [part.name.rpartition(":")[2].replace("-", "_") for part in parts]
    return [f"{word}{number}" if words.count(word) > 1 else word for number, word in enumerate(words, 1)]
