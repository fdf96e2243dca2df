"""Losses that others wrote, as losses of ours: their arguments become hyperparameters that a search can name.

A class of losses is made for each of them, with a field for each argument that is a number, a word or a tensor of
numbers. Members of a population that differ in such an argument are computed apart, for other people's code reads
plain numbers.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.hyperparameters import Domain, declares
from mtl.losses.by_class import class_frequencies
from mtl.losses.constant import mean_or_logit
from mtl.losses.labels import by_class, changed, classes_second, known, versions
from mtl.losses.loss import Loss, Terms, aligned, beside, tensors_of, widened
from mtl.losses.purity import drawn_as_made, impure, trainable
from mtl.messages import in_one_line, kind_of

_NEVER = ("self", "reduction", "size_average", "reduce", "device", "dtype", "args", "kwargs")
_REQUIRED = "is missing: it has no default"
_FEW = 16  # examples on which a loss is tried


@dataclass(frozen=True)
class Wrapped(Loss):
    """A loss class or function of torch or of anyone else; see `wrapper`."""

    #: The class or function.
    wraps: ClassVar[Any]
    #: Gives this class for its name.
    found_by: ClassVar[Any]
    #: Hyperparameters of which the argument has no default.
    required: ClassVar[tuple[str, ...]] = ()
    #: The argument that each hyperparameter is.
    arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: Arguments that are the same in every spec.
    always: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    takes_tensors: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in self.required:
            if getattr(self, key) is None:
                raise ValueError(f"{self.name}: {key} {_REQUIRED}, so it has to be given as {self.name}:{key}=...")
        for field in dataclasses.fields(self):  # a spec gives text where a search gives the number
            if field.type is Any and isinstance(text := getattr(self, field.name), str):
                object.__setattr__(self, field.name, _read(text))
        self.function()  # refuses what it does not take

    @property
    def examples(self) -> str:
        """The kind of examples on which it is tested, one of `mtl.losses.examples.KINDS`; empty where nobody says."""
        return ""

    def settings(self) -> dict[str, Any]:
        """The arguments that were given, tuples as tensors."""
        found: dict[str, Any] = dict(self.always)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in self.required or value != field.default:
                found[self.arguments[field.name]] = torch.tensor(value) if isinstance(value, tuple) else value
        return found

    def function(self) -> Callable[..., Any]:
        """What is called with prediction and label."""
        if not isinstance(self.wraps, type):
            given = self.settings()
            return lambda prediction, target: self.wraps(prediction, target, **given)
        try:
            made = self.wraps(**self.settings())
        except Exception as error:
            said = ", ".join(f"{key}={value!r}" for key, value in self.settings().items())
            raise ValueError(
                f"{self.name}: {self.wraps.__name__}({said}) failed: {in_one_line(error)[:300]}"
            ) from error
        if fault := trainable(made):
            raise ValueError(f"{self.name}: it {fault}")
        if not callable(made):
            raise ValueError(f"{self.name}: {self.wraps.__name__} makes something that cannot be called")
        return made  # type: ignore[no-any-return]

    def __call__(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """The loss as it comes; other reductions than the mean cannot be asked of everyone's losses."""
        if reduction != "mean":
            raise ValueError(
                f"{self.name}: reduction={reduction!r}: of a loss that is not of mtl.losses there is the mean"
            )
        return _called(self.function(), widened(prediction), target)

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        whole = self(prediction, target)
        return Terms(whole, torch.ones_like(whole, dtype=torch.bool))

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        labelled = known(target).reshape(len(target), -1).all(1).nonzero()[:_FEW, 0]
        if not len(labelled):
            return None
        some = prediction.detach()[torch.arange(len(labelled), device=prediction.device) % len(prediction)]
        labels = target[labelled]
        before = versions(some, labels)
        try:
            with torch.no_grad():
                found: Any = self(some, labels)
        except Exception as error:
            shapes = f"outputs {tuple(some.shape)} and labels {tuple(labels.shape)}"
            return f"fails on {shapes}: {in_one_line(error)[:300]}"
        if said := changed(before, some, labels):
            return said
        if not isinstance(found, Tensor) or found.numel() != 1:
            shape = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else kind_of(found)
            return f"returns {shape}; one number is wanted, the mean"
        return None

    def impurity(self, prediction: Tensor, target: Tensor) -> str | None:
        whole = known(target).reshape(len(target), -1).all(1)
        if not bool(whole.any()):
            return None
        some, labels = widened(prediction.detach()[whole]), target[whole]
        function = _like(self.function(), some)
        return drawn_as_made(self.function) or impure(function, lambda tried: _called(tried, some, labels))

    def by_class(self, target: Tensor, outputs: int) -> bool:
        return by_class(target, outputs)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        width = 1 if outputs is None else outputs
        return class_frequencies(target) if by_class(target, width) else mean_or_logit(self, target, width)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return _made_again, (self.found_by, self.name, values)


def _called(function: Callable[..., Any], prediction: Tensor, target: Tensor) -> Tensor:
    """What a function makes of predictions and labels in the form that losses of libraries expect."""
    prediction, target = aligned(*same_dtype(prediction, target))
    return _like(function, prediction)(classes_second(prediction, target), target)  # type: ignore[no-any-return]


def _like(function: Callable[..., Any], prediction: Tensor) -> Callable[..., Any]:
    """`function`; a module with its buffers where the predictions are, and in their precision."""
    function = beside(function, prediction)
    others = isinstance(function, nn.Module) and any(
        each.is_floating_point() and each.dtype != prediction.dtype for each in tensors_of(function)
    )
    return copy.deepcopy(function).to(prediction.dtype) if others else function  # type: ignore[attr-defined]


def _made_again(found_by: Callable[[str], type[Loss]], name: str, values: Mapping[str, Any]) -> Loss:
    """A loss from a pickle, whose class is made where it is read."""
    return found_by(name)(**values)


@dataclass(frozen=True)
class Instance(Wrapped):
    """A loss that stands ready in a user's file, such as `loss = nn.HuberLoss(delta=3)`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if said := trainable(self.wraps):
            raise ValueError(f"{self.name}: it {said}")

    def function(self) -> Callable[..., Any]:
        return self.wraps  # type: ignore[no-any-return]


def wrapper(
    name: str,
    target: Any,
    found_by: Callable[[str], type[Loss]],
    base: type[Wrapped] = Wrapped,
    about: str = "",
    ratios: Collection[str] = (),
    bounds: Mapping[str, Domain] = MappingProxyType({}),
) -> type[Wrapped]:
    """A class of losses around `target`.

    An argument that is called as something that every loss has, such as `kind`, is the hyperparameter `kind_`.

    Args:
        name: in specs.
        target: a class whose instances, or a function that, take prediction and label.
        found_by: gives this class for its name, in a process that reads a loss from a pickle.
        base: what to derive it from.
        about: its docstring.
        ratios: arguments that are weights of classes of which only ratios matter.
        bounds: of arguments, where they are known.

    Raises:
        ValueError: its arguments cannot be told.
    """
    fields, required, arguments, taken = [], [], {}, _names_of(base)
    for argument, parameter in _arguments(name, target).items():
        key = f"{argument}_" if argument in taken else argument
        arguments[key] = argument
        default = parameter.default
        if default is parameter.empty:
            required.append(key)
            default = None
        elif not (default is None or isinstance(default, bool | int | float | str)) or _is_function(parameter):
            continue  # a function, a device: not for a spec
        elif isinstance(default, int) and not isinstance(default, bool) and parameter.annotation in (float, "float"):
            default = float(default)
        kind = _type(default, parameter.annotation)
        word = "VALUE" if kind in (str, Any) else ""
        tasks = "class ratios" if argument in ratios else ""
        domain = dataclasses.replace(
            bounds.get(argument, Domain()), text=word, tasks=tasks, doc=f"of {target.__name__}"
        )
        fields.append((key, kind, dataclasses.field(default=default, metadata=declares(domain))))
    made = dataclasses.make_dataclass(target.__name__, fields, bases=(base,), frozen=True, kw_only=True)
    made.name, made.required = name, tuple(required)  # type: ignore[attr-defined]
    made.arguments, made.always = MappingProxyType(arguments), MappingProxyType(_mean(target))  # type: ignore[attr-defined]
    # A function that is an attribute of a class would become a method of it.
    made.wraps = target if isinstance(target, type) else staticmethod(target)  # type: ignore[attr-defined]
    made.found_by = staticmethod(found_by)  # type: ignore[attr-defined]
    made.__doc__ = about or _first_line(target)
    return made


def _read(text: str) -> Any:
    """A value of an argument that does not say its type, as what it looks like."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    try:
        return tuple(float(part) for part in text.split("/"))
    except ValueError:
        return text


def user_code(loss: Loss) -> Any:
    """The class or function that a loss of a library or of a user's file is made of; None for ours and torch's."""
    if isinstance(loss, Wrapped) and ":" in loss.name:
        return loss.wraps
    return type(loss) if ":" in loss.name and "+" not in loss.name else None


def _arguments(name: str, target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        found = dict(inspect.signature(target).parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: its arguments cannot be told: {error}") from error
    if not isinstance(target, type):  # the first two are prediction and label
        for key in [*found][:2]:
            del found[key]
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {key: each for key, each in found.items() if key not in _NEVER and each.kind not in kinds}


def _mean(target: Any) -> dict[str, str]:
    """What asks for the mean where something else is usual, as in `torchvision.ops:sigmoid_focal_loss`."""
    reduction = inspect.signature(target).parameters.get("reduction")
    return {} if reduction is None or reduction.default not in ("none", "sum") else {"reduction": "mean"}


def _is_function(parameter: inspect.Parameter) -> bool:
    """Whether an argument says that it is one."""
    return "Callable" in str(parameter.annotation)


def _names_of(cls: type) -> set[str]:
    """What a class and those it derives from have or declare."""
    return set(dir(cls)).union(*(vars(each).get("__annotations__", {}) for each in cls.__mro__))


def _type(default: Any, annotation: Any) -> Any:
    if isinstance(default, bool):
        return bool
    if isinstance(default, int):
        return float if annotation in (float, "float") else int
    if isinstance(default, float):
        return float
    if isinstance(default, str):
        return str
    if "Tensor" in str(annotation):
        return tuple[float, ...] | None
    return Any


def _first_line(target: Any) -> str:
    text = inspect.getdoc(target) or f"{target.__module__}.{target.__name__}"
    return " ".join(text.split("\n\n")[0].split())


def same_dtype(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Labels that are floating-point numbers in the precision of the prediction, as torch wants them."""
    return prediction, target.to(prediction.dtype) if target.is_floating_point() else target
