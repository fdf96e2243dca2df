"""Hyperparameters that say what they accept: bounds, choices and the range a search should try.

Declarations are read without torch, by `mtl --help` among others; it is imported where there may be tensors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from mtl.suggestions import listed, nearest

_KEY = "mtl.hyperparameter"
#: Where all of a kind are shown.
_SHOWN = {kind: listed(what) for kind, what in {"strategy": "strategies", "model": "models"}.items()}

U = TypeVar("U")


@dataclasses.dataclass(frozen=True)
class Domain:
    """What a hyperparameter may be (`low`, `high`, `choices`, `tasks`) and what a search tries (`search`, `log`).

    `tasks` ties it to the tasks: `each`, one number a task; `ratios`, the same where only ratios matter, so a point of
    the simplex; `index`, tasks by their index. `text` is the word for what may be any text, such as `SPEC`. `varies`
    says of a training setting that members trained side by side may differ in it. `words` may stand in place of
    numbers, such as `inverse` for class weights that the training labels decide; `tasks` is `classes` for numbers of
    which there is one for each class of one task, and `class ratios` where only their ratios matter.
    """

    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    search: tuple[float, float] | None = None
    log: bool = False
    doc: str = ""
    tasks: str = ""
    text: str = ""
    varies: bool = False
    above: bool = False
    words: tuple[str, ...] = ()

    def complaint(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        if self.choices:
            return None if value in self.choices else f"must be one of {', '.join(self.choices)}"
        if self.text and isinstance(value, str):
            return None
        if self.words and isinstance(value, str):
            return None if value in self.words else f"must be a number, or one of {', '.join(self.words)}"
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or number is None:
                continue
            if not isinstance(number, int | float) or not math.isfinite(number):
                return "must be a finite number"
            low = self.low is not None and (number < self.low or (self.above and number == self.low))
            if low or (self.high is not None and number > self.high):
                return f"must be {self.interval()}"
        if self.tasks in ("ratios", "class ratios") and value and not any(value):
            return "must not be all zero"
        return None

    def misfit(self, value: Any, usual: Any, num_tasks: int) -> str | None:
        """Why `value` does not suit so many tasks, or None; as many numbers as in the default, `usual`, suit any."""
        if self.tasks == "index":
            wrong = [k for k in (value if isinstance(value, tuple) else (value,)) if k != int(k) or k >= num_tasks]
            return f"={wrong[0]:g} is not a task's index, 0 to {num_tasks - 1}" if wrong else None
        if self.tasks in ("each", "ratios"):
            given = value.shape[-1] if hasattr(value, "shape") else len(value)
            if given not in (len(usual), num_tasks):
                return f" has {given} numbers, one a loss would be {num_tasks}"
        return None

    def interval(self) -> str:
        """The accepted values in words, for messages and tables."""
        return " | ".join((*(self.choices or self.words), *(() if self.choices else (self._numbers(),))))

    def _numbers(self) -> str:
        if self.low is not None and self.high is not None:
            return f"in {'(' if self.above else '['}{self.low:g}, {self.high:g}]"
        if self.low is not None:
            return f"{'above' if self.above else 'at least'} {self.low:g}"
        return f"at most {self.high:g}" if self.high is not None else "any"


def hyper(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: tuple[str, ...] = (),
    search: tuple[float, float] | None = None,
    log: bool = False,
    doc: str = "",
    tasks: str = "",
    text: str = "",
    varies: bool = False,
    above: bool = False,
    words: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with a domain: `alpha: float = hyper(1.5, 0, search=(0.1, 3), doc="...")`."""
    domain = Domain(low, high, choices, search, log, doc, tasks, text, varies, above, words)
    return dataclasses.field(default=default, metadata=declares(domain))


def declares(domain: Domain) -> dict[str, Domain]:
    """The metadata of a dataclass field with this domain."""
    return {_KEY: domain}


def domains(unit: Any) -> dict[str, Domain]:
    """The domain of each declared hyperparameter of a dataclass or of an instance of one."""
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(unit) if _KEY in f.metadata}


def defaults(unit: Any) -> dict[str, Any]:
    """The default value of each declared hyperparameter."""
    return {f.name: f.default for f in dataclasses.fields(unit) if _KEY in f.metadata}


def validate(unit: Any, name: str) -> None:
    """Raise `ValueError` for the first hyperparameter of `unit` outside its domain.

    Tensors (one value a member of a population) pass unchecked: looking into them would synchronise with the device
    and break `vmap`; whoever makes them draws them from the domain. Within `torch.compile` nothing is checked: what is
    rebuilt there holds traced tensors and what was checked before.
    """
    import torch

    if torch.compiler.is_compiling():
        return
    for key, domain in domains(unit).items():
        value = getattr(unit, key)
        if not isinstance(value, torch.Tensor) and (complaint := domain.complaint(value)):
            raise ValueError(f"{name}: {key}={value!r} {complaint}")


def check_tasks(unit: Any, name: str, num_tasks: int) -> None:
    """Raise `ValueError` for the first hyperparameter of `unit` that does not suit `num_tasks` tasks."""
    usual = defaults(unit)
    for key, domain in domains(unit).items():
        if misfit := domain.misfit(getattr(unit, key), usual[key], num_tasks):
            raise ValueError(f"{name}: {key}{misfit}")


def parse(cls: type, key: str, text: str, name: str) -> Any:
    """Read `text` as the type that `cls` declares for its hyperparameter `key`; tuples are written `1/2/1`."""
    kinds = kinds_of(cls, key)
    if text in domains(cls)[key].words:
        return text
    if type(None) in kinds and text.lower() == "none":
        return None
    try:
        if tuple in kinds:
            return tuple(float(part) for part in text.split("/")) if text else ()
        if bool in kinds:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if int in kinds and float not in kinds:
            return int(text)
        if float in kinds:
            return float(text)
    except (ValueError, KeyError):
        number = next((kind.__name__ for kind in (bool, int, float) if kind in kinds), "text")
        wanted = " or ".join(("numbers joined by /" if tuple in kinds else number, *domains(cls)[key].words))
        raise ValueError(f"{name}: {key}={text!r} cannot be read as {wanted}") from None
    return text


def read_unit(text: str, registry: Mapping[str, type[U]], kind: str) -> tuple[type[U], dict[str, Any]]:
    """Read `NAME:KEY=VALUE,KEY=VALUE` as a class of `registry` and the values given for it.

    Raises:
        ValueError: an unknown name or key, with the nearest known ones; a value that cannot be read.
    """
    name, colon, settings = text.partition(":")
    name = name.strip()
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}: {nearest(name, registry, _SHOWN.get(kind, ''))}")
    if colon:
        check_said(settings, f"{kind} {text!r}")
    return registry[name], read_pairs(registry[name], name, settings, f"{kind} {text!r}")


def check_said(settings: str, where: str) -> None:
    """Raise `ValueError` where nothing stands behind the colon of a spec: something was forgotten."""
    if not settings.strip(" ,"):
        raise ValueError(f"{where}: nothing stands behind its colon, where KEY=VALUE is wanted")


def read_pairs(cls: type, name: str, settings: str, where: str) -> dict[str, Any]:
    """Read `KEY=VALUE,KEY=VALUE` as values of the hyperparameters of `cls`.

    Args:
        cls: declares them.
        name: of it, for messages.
        settings: the text.
        where: it stands, for messages.

    Raises:
        ValueError: an unknown key, with the nearest known ones; a key that is given twice; a value that cannot be read.
    """
    values = {}
    for pair in filter(None, (piece.strip() for piece in settings.split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(f"{where}: {pair!r} is not KEY=VALUE")
        check_key(cls, key, name)
        if key in values:
            raise ValueError(f"{where}: it gives {key} twice")
        values[key] = parse(cls, key, value, name)
    return values


def read_items(option: str, items: Sequence[str], form: str) -> dict[str, str]:
    """Read `NAME=TEXT` items of an option that takes several.

    Args:
        option: as the command line writes it.
        items: as given.
        form: of an item, with an example, for messages.

    Raises:
        ValueError: an item of another form, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, text = (part.strip() for part in item.partition("="))
        if not (name and equals and text):
            raise ValueError(f"{option} {item!r} is not {form}")
        if name in found:
            raise ValueError(f"{option} gives {name} twice")
        found[name] = text
    return found


def check_key(cls: type, key: str, name: str) -> None:
    """Raise `ValueError` when `cls` has no hyperparameter `key`."""
    if key not in (known := domains(cls)):
        raise ValueError(f"{name} has no hyperparameter {key!r}: {nearest(key, known)}")


def write_unit(unit: Any, name: str) -> str:
    """The text that `read_unit` reads back: the name and the values that differ from their defaults."""
    standard = defaults(unit)
    pairs = [f"{key}={show(getattr(unit, key))}" for key, usual in standard.items() if getattr(unit, key) != usual]
    return name + (":" + ",".join(pairs) if pairs else "")


def show(value: Any) -> str:
    """The text that `parse` reads back as `value`."""
    if isinstance(value, tuple):
        return "/".join(show(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    return repr(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e6 else str(value)


def kinds_of(cls: type, key: str) -> set[Any]:
    """The types that `cls` declares for a field: `{int, NoneType}` for `int | None`, `{list, str}` for `list[str]`."""
    return _kinds(_annotations(cls)[key])


@functools.cache  # evaluating annotations takes a third of the time in which a large population is made
def _annotations(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _kinds(annotation: Any) -> set[Any]:
    if typing.get_origin(annotation) is list:
        return {list}.union(*(_kinds(part) for part in typing.get_args(annotation)))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return set().union(*(_kinds(part) for part in typing.get_args(annotation)))
    return {typing.get_origin(annotation) or annotation}
