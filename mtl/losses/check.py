"""Tests a loss, ours or anyone's, on made-up examples, and says in plain words what it found."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from mtl.hyperparameters import domains
from mtl.losses.examples import KINDS, USUAL, example, with_missing
from mtl.losses.labels import changed, elementwise, versions
from mtl.losses.loss import Loss
from mtl.losses.wrapped import Wrapped
from mtl.messages import in_one_line

OK, NOTE, FAIL = "ok", "note", "FAIL"
EXTREME = 1e4
_CLASSES = "classes"  # a kind whose losses may take numbers without a word
_MEMBERS, _STEPS, _LR = 3, 200, 0.05
_CLOSE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Finding(NamedTuple):
    """One thing that was tested: its name, `ok`, `note` or `FAIL`, and what was found."""

    name: str
    status: str
    text: str


class Checked(NamedTuple):
    """What was found, and the kind of examples on which."""

    kind: str
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(finding.status != FAIL for finding in self.findings)


def check_loss(loss: Loss, kind: str | None = None) -> Checked:
    """Test a loss: its gradient, the edges, half precision, vectorisation, missing labels and more.

    Args:
        loss: made by `make_loss`.
        kind: of predictions and labels, one of `KINDS`; if not given, what the loss says, or the first of `USUAL` that
            it takes.

    Raises:
        ValueError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"--kind {kind}: known are {', '.join(KINDS)}")
    told = kind or loss.kind or (loss.examples if isinstance(loss, Wrapped) else "") or _first_kind(loss)
    found = told or "numbers"
    prediction, target = _example(loss, found)
    if said := _refused(loss, prediction, target) or loss.impurity(prediction, target):
        others = "" if told else f"takes none of the kinds {', '.join(USUAL)}; with {found} it "
        return Checked(found, [Finding("runs", FAIL, others + said)])
    width = prediction.shape[-1] if prediction.ndim > 1 else 1
    subject = _Subject(loss.fitted(target, width), found, isinstance(loss, Wrapped))
    stated = kind or loss.kind or (isinstance(loss, Wrapped) and loss.examples)
    unsure = not stated and found != _CLASSES and _refused(loss, *_example(loss, _CLASSES)) is None
    hint = f"; it runs with classes as well, which --kind {_CLASSES} tests" if unsure else ""
    text = f"one number, from predictions {tuple(prediction.shape)} of kind {found!r}{hint}"
    findings = [Finding("runs", OK, text)]
    for name, check in _CHECKS.items():
        try:
            findings += check(subject)
        except Exception as error:  # anyone's code may raise anything
            findings.append(Finding(name, FAIL, _failure(error)))
    return Checked(found, findings)


class _Subject:
    """The loss and its examples."""

    def __init__(self, loss: Loss, kind: str, foreign: bool) -> None:
        self.loss, self.kind, self.foreign = loss, kind, foreign
        self.prediction, self.target = _example(loss, kind)

    def value(self, prediction: Tensor, target: Tensor | None = None) -> Tensor:
        return self.loss(KINDS[self.kind].admitted(prediction), self.target if target is None else target)

    def with_gradient(self, prediction: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        leaf = prediction.detach().clone().requires_grad_()
        value = self.value(leaf, target)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient


def _first_kind(loss: Loss) -> str:
    """The first that the loss takes; empty where there is none."""
    return next((kind for kind in USUAL if _refused(loss, *_example(loss, kind)) is None), "")


def _example(loss: Loss, kind: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """With as many classes or labels as the loss has weights."""
    given = [getattr(loss, key) for key in domains(loss)]
    lengths = [len(value) for value in given if isinstance(value, tuple) and len(value) > 1]
    return example(kind, seed, *lengths[:1])


def _refused(loss: Loss, prediction: Tensor, target: Tensor) -> str | None:
    """Why a loss cannot be taken of these, without what torch warns of in the attempt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _refused_aloud(loss, prediction, target)


def _refused_aloud(loss: Loss, prediction: Tensor, target: Tensor) -> str | None:
    try:
        width = prediction.shape[-1] if prediction.ndim > 1 else 1
        if said := loss.complaint(prediction, target):
            return said
        guess = prediction.clone().requires_grad_() * 1  # as in a model, none that may not be changed
        before = versions(guess, target)
        value: Any = loss.fitted(target, width)(guess, target)
        if said := changed(before, guess, target):
            return said
        if not isinstance(value, Tensor) or value.numel() != 1:
            return "does not return one number"
        if not value.requires_grad:
            return "does not depend on the prediction in a way that can be differentiated"
        return None if bool(value.isfinite()) else f"is {value.item():g} on ordinary examples"
    except Exception as error:  # anyone's code may raise anything
        return _failure(error)


def _failure(error: Exception) -> str:
    return f"fails: {in_one_line(error)[:200]}"


def _gradient(subject: _Subject) -> Iterator[Finding]:
    first = subject.value(subject.prediction)
    if not torch.equal(first, subject.value(subject.prediction)):
        yield Finding("gradient", FAIL, "draws at random: two calls with the same predictions give two numbers")
        return
    leaf = subject.prediction.clone().requires_grad_()
    # Some add up in float32 whatever they are given, such as metrics of torchmetrics.
    step, close = (1e-6, 1e-5) if first.dtype == torch.float64 else (1e-2, 1e-2)
    try:
        torch.autograd.gradcheck(lambda p: subject.value(p).reshape(()), leaf, eps=step, atol=close, rtol=10 * close)
    except GradcheckError:
        text = f"differs from what small steps of the prediction show: {_worst(subject, step)}"
        yield Finding("gradient", FAIL, text)
        return
    yield Finding("gradient", OK, "as small steps of the prediction show")


def _worst(subject: _Subject, step: float) -> str:
    """Where the gradient differs most from the slope that two predictions beside each other have."""
    prediction = subject.prediction
    _, gradient = subject.with_gradient(prediction)
    slopes = torch.zeros_like(prediction)
    for place in range(prediction.numel()):
        moved = torch.zeros_like(prediction)
        moved.view(-1)[place] = step
        with torch.no_grad():
            rise = subject.value(prediction + moved) - subject.value(prediction - moved)
        slopes.view(-1)[place] = rise / (2 * step)
    place = int((gradient - slopes).abs().nan_to_num(torch.inf).argmax())
    values = [float(each.reshape(-1)[place]) for each in (gradient, slopes, prediction)]
    return "{:.4g} where they show {:.4g}, at a prediction of {:.4g}".format(*values)


def _sign(subject: _Subject) -> Iterator[Finding]:
    sure = KINDS[subject.kind].right(subject.target, subject.prediction)
    found, wrong = float(subject.value(sure)), float(subject.value(subject.prediction))
    text = f"{found:.4g} for right predictions, {wrong:.4g} for ones drawn at random"
    yield Finding(
        "sign", OK if found < wrong else FAIL, text + ("" if found < wrong else ": it has to be lower for right")
    )


def _falls(subject: _Subject) -> Iterator[Finding]:
    leaf = subject.prediction.clone().requires_grad_()
    before = float(subject.value(leaf.detach()))
    optimizer = torch.optim.Adam([leaf], lr=_LR)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        subject.value(leaf).backward()
        optimizer.step()
    after = float(subject.value(leaf.detach()))
    status = OK if after < before else FAIL
    yield Finding("training", status, f"{_STEPS} steps on the predictions take it from {before:.4g} to {after:.4g}")
    below = "; it goes below 0, which strategies of ratios and logarithms pass over" if after < 0 else ""
    yield Finding("range", NOTE if below else OK, f"{min(before, after):.4g} at its lowest here{below}")


def _start(subject: _Subject) -> Iterator[Finding]:
    """Of losses that know; only of kinds with a class or a yes for each label."""
    if type(subject.loss).wrong_start is Loss.wrong_start:
        return
    classes = 2 if elementwise(subject.prediction, subject.target) else subject.prediction.shape[-1]
    said = subject.loss.wrong_start(classes)
    text = said or f"raises the true class where {classes} classes are as likely"
    yield Finding("start", NOTE if said else OK, text)


def _scale(subject: _Subject) -> Iterator[Finding]:
    value, gradient = subject.with_gradient(subject.prediction)
    size = float(gradient.norm())
    odd = size > 1e3 or size < 1e-6
    hint = "; give it a weight, or the labels another scale" if odd else ""
    text = f"{float(value):.4g} with a gradient of length {size:.3g}, for predictions of size 1{hint}"
    yield Finding("scale", NOTE if odd else OK, text)


def _reduction(subject: _Subject) -> Iterator[Finding]:
    once = float(subject.value(subject.prediction))
    twice = float(
        subject.value(torch.cat([subject.prediction, subject.prediction]), torch.cat([subject.target, subject.target]))
    )
    if abs(twice - once) <= 1e-6 * abs(once):
        yield Finding("batch", OK, "a mean: twice as many examples do not make it larger")
    elif abs(twice - 2 * once) <= 1e-6 * abs(once):
        yield Finding("batch", FAIL, "a sum: it grows with the batch, and so does the step; return the mean")
    else:
        yield Finding("batch", NOTE, "what an example costs depends on the others of its batch")
    if subject.foreign:
        return
    try:
        each = subject.loss(subject.prediction, subject.target, reduction="none")
    except ValueError as error:
        yield Finding("terms", NOTE, str(error))
        return
    total = float(subject.loss(subject.prediction, subject.target, reduction="sum"))
    right = abs(float(each.nansum()) - total) <= 1e-8 * max(1.0, abs(total))
    status = OK if right else FAIL
    yield Finding("terms", status, f"reduction='none' gives {tuple(each.shape)}, whose sum is that of reduction='sum'")


def _edges(subject: _Subject) -> Iterator[Finding]:
    bad = []
    right = KINDS[subject.kind].right(subject.target, subject.prediction).float()
    for name, prediction in [*_extremes(subject.prediction.float()), ("what the labels say", right)]:
        value, gradient = subject.with_gradient(prediction)
        if not bool(value.isfinite()):
            bad.append(f"is {value.item():g} for predictions of {name}")
        elif not bool(gradient.isfinite().all()):
            bad.append(f"has a gradient that is not finite for predictions of {name}")
    yield Finding(
        "edges",
        FAIL if bad else OK,
        _some(bad) or f"finite, as is its gradient, for predictions of 0, ±{EXTREME:g} and what the labels say",
    )


def _nan(subject: _Subject) -> Iterator[Finding]:
    spoilt = subject.prediction.clone()
    spoilt[0] = torch.nan
    try:
        text = "hides a prediction that is NaN" if bool(subject.value(spoilt).isfinite()) else ""
    except Exception as error:
        text = (
            f"ends a run with an error at a prediction that is NaN, where a NaN is left out: {in_one_line(error)[:120]}"
        )
    yield Finding("NaN", FAIL if text else OK, text or "a prediction that is NaN makes it NaN")


def _some(faults: list[str]) -> str:
    """The first fault, and how many more there are."""
    return "; ".join([*faults[:1], *([f"and {len(faults) - 1} more like it"] if len(faults) > 1 else [])])


def _extremes(like: Tensor) -> list[tuple[str, Tensor]]:
    place = torch.arange(like.numel()).reshape(like.shape)
    sides = torch.where(place % 2 == 0, EXTREME, -EXTREME).to(like.dtype)
    return [
        ("0", torch.zeros_like(like)),
        (f"{EXTREME:g}", torch.full_like(like, EXTREME)),
        (f"{-EXTREME:g}", torch.full_like(like, -EXTREME)),
        (f"±{EXTREME:g}", sides),
        (f"∓{EXTREME:g}", -sides),
        (f"{EXTREME:g} and what is usual", torch.where(place % 3 == 0, sides, like)),
    ]


def _half(subject: _Subject) -> Iterator[Finding]:
    for dtype in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        try:
            bad = _half_of(subject, dtype)
        except Exception as error:
            bad = f"fails: {' '.join(str(error).split())[:160]}"
        yield Finding(name, FAIL if bad else OK, bad or "as in float32 to rounding, and finite at the edges")


def _half_of(subject: _Subject, dtype: torch.dtype) -> str | None:
    short = subject.prediction.to(dtype)
    value, gradient = subject.with_gradient(short)
    full, _ = subject.with_gradient(short.float())
    if (
        not bool((value.float() - full).abs() <= _CLOSE[dtype] * full.abs().clamp(min=1))
        or not gradient.isfinite().all()
    ):
        return f"{float(value):.4g} where float32 gives {float(full):.4g}"
    largest = torch.finfo(dtype).max
    for name, prediction in _extremes(short):
        value, gradient = subject.with_gradient(prediction)
        if not bool(value.isfinite()):
            return f"is {value.item():g} for predictions of {name}"
        # A slope that no number of this precision can hold is no fault of the loss.
        _, slope = subject.with_gradient(prediction.float())
        if bool((~gradient.isfinite() & (slope.abs() <= largest)).any()):
            return f"has a gradient that is not finite for predictions of {name}"
    return None


def _vectorised(subject: _Subject) -> Iterator[Finding]:
    predictions = torch.stack([_example(subject.loss, subject.kind, seed)[0] for seed in range(_MEMBERS)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch has no faster way for one of its own losses
            together = torch.func.vmap(subject.value)(predictions)
        apart = torch.stack([subject.value(each) for each in predictions])
        right = torch.allclose(together, apart)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        text = f"cannot be vectorised, so members of a population train one at a time: {reason}"
        yield Finding("vmap", NOTE if subject.foreign else FAIL, text)
        return
    yield Finding("vmap", OK if right else FAIL, f"{_MEMBERS} members at once {'as' if right else 'not as'} one by one")
    if subject.foreign or not getattr(subject.loss, "takes_tensors", True):
        return
    wrong = [key for key in _continuous(subject.loss) if not _member_axis(subject, key, predictions)]
    if names := _continuous(subject.loss):
        text = f"{', '.join(wrong)} cannot" if wrong else f"{', '.join(names)} can"
        yield Finding("members", FAIL if wrong else OK, f"{text} have a value for each member of a population")


def _continuous(loss: Loss) -> list[str]:
    return [key for key in domains(loss) if isinstance(getattr(loss, key), float | tuple)]


def _member_axis(subject: _Subject, key: str, predictions: Tensor) -> bool:
    domain, now = domains(subject.loss)[key], getattr(subject.loss, key)
    if isinstance(now, tuple):
        values: list[Any] = [tuple(each * (1 + 0.1 * number) for each in now) for number in range(_MEMBERS)]
        if domain.high is not None:
            values = [tuple(min(each, domain.high) for each in row) for row in values]
    else:
        low, high = domain.search or (now, now * 1.1)
        values = torch.linspace(low, high, _MEMBERS, dtype=torch.float64).tolist()

    def of(value: Any) -> Loss:
        return dataclasses.replace(subject.loss, **{key: value})

    try:
        together = torch.func.vmap(lambda p, value: of(value)(p, subject.target))(
            predictions, torch.tensor(values, dtype=torch.float64)
        )
        apart = torch.stack([of(value)(each, subject.target) for each, value in zip(predictions, values, strict=True)])
    except Exception:  # anybody's loss may raise anything; a parameter of which it does is none that members can have
        return False
    return torch.allclose(together, apart)


def _missing(subject: _Subject) -> Iterator[Finding]:
    rows = slice(len(subject.target) // 2, None)
    target = with_missing(subject.target, rows)
    try:
        value, gradient = subject.with_gradient(subject.prediction, target)
        rest = subject.value(subject.prediction[: rows.start], subject.target[: rows.start])
        none = subject.value(subject.prediction, with_missing(subject.target, slice(None)))
    except Exception as error:
        value, gradient = torch.tensor(torch.nan), torch.tensor(torch.nan)
        rest, none = value, torch.tensor(0.0)
        reason = f" ({' '.join(str(error).split())[:80]})"
    else:
        reason = ""
    bad = None
    if not torch.allclose(value, rest.detach().to(value.dtype)):
        mark = "NaN" if subject.target.is_floating_point() else "-100"
        bad = f"does not leave out labels that are missing ({mark}){reason}: take it for data that has all of them"
    elif bool((gradient[rows] != 0).any()):
        bad = "has a gradient where the label is missing"
    elif not bool(none.isnan()):
        bad = f"is {none.item():g} where all labels are missing; NaN says that there is no loss"
    status = OK if bad is None else NOTE if subject.foreign else FAIL
    yield Finding("missing", status, bad or "labels that are missing are left out; NaN when all are")


#: By the name of the first thing that each finds.
_CHECKS: Mapping[str, Callable[[_Subject], Iterator[Finding]]] = {
    "gradient": _gradient,
    "sign": _sign,
    "start": _start,
    "training": _falls,
    "scale": _scale,
    "batch": _reduction,
    "edges": _edges,
    "NaN": _nan,
    "float16": _half,
    "vmap": _vectorised,
    "missing": _missing,
}
