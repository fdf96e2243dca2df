"""Which losses fit the labels of a task, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import domains
from mtl.losses import facts
from mtl.losses.facts import Figures
from mtl.losses.labels import IGNORE, by_class, known
from mtl.losses.regression import Huber, LogCosh
from mtl.messages import in_one_line

_OUTLIERS, _TAILS, _SKEW = 0.01, 3.0, 2.0
_OVERDISPERSED = 1.5
_ERRORS = 3.0  # standard errors by which the variance may be below the mean, as that of Poisson counts never is
_SMALL, _LARGE = 1e-3, 1e3  # standard deviations beyond which learning rates and ranges of parameters do not fit
_UNEVEN, _VERY_UNEVEN = 3.0, 20.0
_RARE = 0.1
_SMOOTH = 0.5  # difference of neighbours, in standard deviations, below which a picture has surfaces and edges
_FEW_COUNTS = 0.05  # share of zeros from which amounts are taken for ones that are often zero
_EFFICIENT = 1.345  # of Huber's loss: 95 % of the efficiency of the mean on normal errors (Huber 1981)


class Suggestion(NamedTuple):
    """A loss and why it fits."""

    spec: str
    reason: str


class Suggested(NamedTuple):
    """What was found.

    Attributes:
        kind: of the labels.
        figures: that were seen, by name; see `mtl.losses.facts`.
        losses: that fit, the best guess first.
    """

    kind: str
    figures: Figures
    losses: list[Suggestion]


def suggest(target: Any, outputs: int = 1, kind: str | None = None) -> Suggested:
    """The losses that fit a task, from the labels of its training split.

    Labels say how numbers are spread, not how large the errors of a model will be: what is suggested is where to begin,
    and a search decides.

    Args:
        target: labels (N, ...) of the training split, and of no other: a tensor, an array, a column of a data frame or
            a list of numbers.
        outputs: width of the head.
        kind: `numbers`, `amounts` (often zero, else positive), `counts`, `classes`, `yes or no`, `regions` (a class for
            each place) or `directions`; told from the labels if not given.

    Raises:
        ValueError: these are no numbers, no label is there, one is infinite or a class without an output, or the kind
            is unknown; one line.
    """
    target = _tensor(target)
    labels = target[known(target)]
    if not len(labels):
        raise ValueError("no label is there, so nothing can be suggested")
    if target.is_floating_point() and bool(labels.isinf().any()):
        raise ValueError(f"{int(labels.isinf().sum())} of the labels are infinite; a label that is not known is NaN")
    found = kind or kind_of(target, outputs)
    if found not in _KINDS:
        raise ValueError(f"kind={found!r} must be one of {', '.join(_KINDS)}")
    if _FIGURES[found] is facts.of_classes:
        _check_classes(labels, outputs)
        target = torch.where(known(target), target, IGNORE).long()
    figures = _FIGURES[found](target, outputs)
    return Suggested(found, figures, list(_KINDS[found](figures)))


def _tensor(target: Any) -> Tensor:
    """Labels as a tensor, those of yes and no as whole numbers."""
    if hasattr(target, "to_numpy"):  # of a data frame
        target = target.to_numpy()
    try:
        found = target if isinstance(target, Tensor) else torch.tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be numbers in a tensor, an array or a list: {in_one_line(error)}") from error
    if found.is_complex():
        raise ValueError(f"labels must be real numbers: here are some of type {found.dtype}")
    return found.long() if found.dtype == torch.bool else found


def _check_classes(labels: Tensor, outputs: int) -> None:
    """Raise `ValueError` if a label is no class that has an output."""
    if bool((wrong := labels != labels.round() if labels.is_floating_point() else labels != labels).any()):
        raise ValueError(f"classes are whole numbers: here is {labels[wrong][0]:g}")
    if bool((wrong := (labels < 0) | (labels >= outputs)).any()):
        raise ValueError(f"classes are from 0 to {outputs - 1} with outputs={outputs}: here is {labels[wrong][0]:g}")


def kind_of(target: Tensor, outputs: int) -> str:
    """What the labels are, told from their type, values and number.

    Args:
        target: labels (N, ...).
        outputs: width of the head.
    """
    labels = target[known(target)]
    binary = bool(((labels == 0) | (labels == 1)).all())
    if by_class(target, outputs):
        return "regions" if target.ndim > 2 else "classes"
    if binary and len(labels.unique()) == 2:
        return "yes or no"
    if bool((labels < 0).any()):
        return "numbers"
    if bool((labels == labels.round()).all()):
        spread, mean = labels.double().var(correction=0), labels.double().mean()
        # Whatever inputs explain of the mean adds to the variance, so a smaller one is of other whole numbers.
        least = mean * (1 - _ERRORS * math.sqrt(2 / len(labels)))
        return "counts" if bool(spread > 0) and bool(spread >= least) else "numbers"
    zeros = float((labels == 0).double().mean())
    return "amounts" if zeros >= _FEW_COUNTS else "numbers"


def _numbers(figures: Figures) -> Iterator[Suggestion]:
    if not figures["sd"]:
        yield Suggestion("mse", f"all labels are {figures['lowest']:g}: there is nothing to learn but this number")
        return
    robust = figures["robust_sd"] or figures["sd"]
    scale = ""
    if not _SMALL <= figures["sd"] <= _LARGE:
        scale = f"; their standard deviation is {figures['sd']:.3g}: divide them by it first"
    seen = f"{figures['outliers']:.1%} of the labels are outliers, and the excess kurtosis is {figures['tails']:.1f}"
    # Parameters that a loss does not take are of labels that want another scale.
    huber = f"huber:delta={max(_EFFICIENT * robust, domains(Huber)['delta'].low or 0.0):.3g}"
    smooth = f"log-cosh:width={max(robust, domains(LogCosh)['width'].low or 0.0):.3g}"
    if figures["outliers"] > _OUTLIERS or figures["tails"] > _TAILS:
        beyond = "beyond 1.345 robust standard deviations an error counts by its size alone"
        yield Suggestion(huber, f"{seen}: {beyond}{scale}")
        yield Suggestion("mae", f"{seen}: the median does not follow them")
        yield Suggestion(smooth, "as huber, without a kink in its slope")
    else:
        yield Suggestion("mse", f"{seen}: nothing speaks against the mean{scale}")
        yield Suggestion(huber, "nearly as good as mse on normal errors, and safe should some be large")
    if figures["lowest"] > 0 and figures["skew"] > _SKEW:
        yield Suggestion("tweedie:power=1.9", f"all above 0 and skewed ({figures['skew']:.1f}): errors by ratio")
    if (apart := figures.get("neighbours", 1.0)) < _SMOOTH:
        seen = f"pictures whose neighbouring labels are {apart:.2f} standard deviations apart: surfaces, with edges"
        yield Suggestion("mae+gradient", f"{seen} that should be sharp")
    yield Suggestion("gaussian", "if the uncertainty of each example is wanted too; needs two outputs for a label")


def _amounts(figures: Figures) -> Iterator[Suggestion]:
    yield Suggestion("tweedie:power=1.5", f"{figures['zeros']:.0%} of the labels are exactly 0, and none is below")
    yield from _numbers(figures)


def _counts(figures: Figures) -> Iterator[Suggestion]:
    ratio = figures["variance_over_mean"]
    seen = f"the variance of the labels is {ratio:.1f} times their mean"
    poisson = Suggestion("poisson", f"{seen}; inputs that explain some of it bring it nearer to 1")
    if ratio > _OVERDISPERSED:
        dispersion = min(max(figures["dispersion"], 0.01), 100.0)
        zeros = f", and {figures['zeros']:.0%} are 0 where a Poisson distribution has {figures['zeros_expected']:.0%}"
        yield Suggestion(f"negative-binomial:dispersion={dispersion:.3g}", seen + zeros)
        yield poisson
    else:
        yield poisson
        yield Suggestion("negative-binomial:dispersion=0.1", "should the counts vary more than that beside like inputs")
    yield Suggestion("tweedie", "between the two: the variance grows with a power of the mean, to be searched")
    reason = f"counts as numbers, up to {figures['highest']:g}: large ones decide"
    yield Suggestion("exp:of=mse", reason)
    yield Suggestion("mse", f"{reason}, and the output is the mean itself, which may come out below 0")


def _classes(figures: Figures) -> Iterator[Suggestion]:
    ratio = figures["imbalance"]
    if figures["absent"] == figures["classes"] - 1:
        yield Suggestion("cross-entropy", "all labels are one class: there is nothing to learn but this class")
        return
    seen = f"the largest class has {ratio:.1f} times the examples of the smallest ({figures['smallest']:g})"
    if ratio < _UNEVEN:
        yield Suggestion("cross-entropy", seen)
        yield Suggestion("cross-entropy:label_smoothing=0.1", "against overconfidence, most of all with few examples")
        yield Suggestion("poly", "cross-entropy with one number to tune")
        return
    if figures["absent"]:
        lacking = f"{figures['absent']:g} of {figures['classes']:g} classes have no example, so no weights from counts"
        yield Suggestion("focal", f"{seen}; {lacking}")
        yield Suggestion("cross-entropy", "as it is, where overall accuracy counts")
        return
    weighed = Suggestion("cross-entropy:class_weights=effective", f"{seen}: weights by class, up to a bound")
    adjusted = Suggestion("logit-adjusted", f"{seen}: best where the mean accuracy over classes or macro-F1 counts")
    yield from (adjusted, weighed) if ratio >= _VERY_UNEVEN else (weighed, adjusted)
    yield Suggestion("focal", "many easy examples beside few hard ones")
    yield Suggestion("cross-entropy", "as it is, where overall accuracy counts")


def _binary(figures: Figures) -> Iterator[Suggestion]:
    several = figures["labels_an_example"] > 1
    rare = figures["rarest"] < _RARE
    share = f"yes is {figures['rarest']:.1%} of the labels" + (" of the rarest kind" if several else "")
    if not rare:
        yield Suggestion("binary-cross-entropy", f"{share}: even enough")
        yield Suggestion("focal", "many easy examples beside few hard ones")
        return
    if several:
        yield Suggestion("asymmetric", f"{share}: easy negatives, most of all labels, stop counting")
        if not (figures["never"] or figures["always"]):
            yield Suggestion("multi-label:positive_weights=inverse", f"{share}: yes of each label weighs as much as no")
    elif not figures["never"]:
        yield Suggestion("binary-cross-entropy:positive_weight=inverse", f"{share}: yes weighs as much as no in all")
    yield Suggestion("focal:alpha=0.75", f"{share}: easy examples are discounted, yes weighs three times as much")
    yield Suggestion("binary-cross-entropy", "as it is, where probabilities have to be right")


def _regions(figures: Figures) -> Iterator[Suggestion]:
    share = f"the smallest region has {figures['smallest'] / figures['labels']:.2%} of all places"
    yield Suggestion("cross-entropy+dice", f"{share}: every place, and every region whatever its size")
    yield Suggestion("cross-entropy", "every place counts the same")
    yield Suggestion("cross-entropy+lovasz", "where intersection over union is what counts")


def _directions(_figures: Figures) -> Iterator[Suggestion]:
    yield Suggestion("cosine", "only the angle counts")
    yield Suggestion("cosine+0.1*mse", "the length counts too")


_KINDS: Mapping[str, Callable[[Figures], Iterator[Suggestion]]] = MappingProxyType(
    {
        "numbers": _numbers,
        "amounts": _amounts,
        "counts": _counts,
        "classes": _classes,
        "yes or no": _binary,
        "regions": _regions,
        "directions": _directions,
    }
)
_FIGURES: Mapping[str, Callable[[Tensor, int], Figures]] = MappingProxyType(
    {
        **{kind: lambda target, _: facts.of_numbers(target) for kind in ("numbers", "amounts", "directions")},
        "counts": lambda target, _: facts.of_counts(target),
        **{kind: facts.of_classes for kind in ("classes", "regions")},
        "yes or no": lambda target, _: facts.of_binary(target),
    }
)
