"""How options are declared: once, as fields of frozen dataclasses.

The parser, the reader of `--config`, what contradicts what, and the schema for editors are made of these fields.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mtl.hyperparameters import Domain, declares, domains, kinds_of, show

_SHEET = "mtl.cli.sheet"
_METAVARS: Mapping[Any, str] = {int: "N", float: "X", Path: "FILE", str: "TEXT"}


@dataclass(frozen=True)
class Option(Domain):
    """What an option may be, and what only the command line asks.

    Attributes:
        metavar: the word for its value in the help.
        engines: that take it, of an option that not all engines of a search take.
        place: `positional` for an argument without dashes, `rest` for all that follows, `hidden` from the help.
    """

    metavar: str = ""
    engines: tuple[str, ...] = ()
    place: str = ""


def option(
    default: Any,
    doc: str,
    low: float | None = None,
    high: float | None = None,
    *,
    above: bool = False,
    choices: tuple[str, ...] = (),
    metavar: str = "",
    engines: tuple[str, ...] = (),
    place: str = "",
) -> Any:
    """A field that is an option: `seeds: int = option(3, "runs of each strategy", 1)`.

    Its type says how it is read: `bool` is a switch, `list` takes several values. `default` may be a function.
    """
    text = "" if choices else metavar or "text"
    about = Option(low, high, choices, doc=doc, text=text, above=above, metavar=metavar, engines=engines, place=place)
    kept: dict[str, Any] = {"default_factory": default} if callable(default) else {"default": default}
    return dataclasses.field(metadata=declares(about), **kept)


def argument(doc: str, default: Any = MISSING, choices: tuple[str, ...] = (), metavar: str = "") -> Any:
    """A field that is an argument without dashes; required where it has no default."""
    return option(default, doc, choices=choices, metavar=metavar, place="positional")


def sheet(of: type, title: str = "", *, usual: bool = True) -> Any:
    """A field that holds those values of another dataclass that were given, by name; its fields are options too.

    Args:
        of: the dataclass.
        title: of the group of these options in the help; they stand in the group before where there is none.
        usual: whether the help says their defaults.
    """
    return dataclasses.field(default_factory=dict, metadata={_SHEET: (of, title, usual)})


class Declared(NamedTuple):
    """An option of a command.

    Attributes:
        name: with underscores; the command line writes dashes.
        kind: `int`, `float`, `str`, `Path` or `bool`.
        many: takes several values.
        about: what it may be.
        usual: the value that the help says it has where none is given; None where it says none.
        required: has to be given.
        sheet: the field that it is part of; empty where it is a field itself.
    """

    name: str
    kind: type
    many: bool
    about: Domain
    usual: Any
    required: bool
    sheet: str

    @property
    def dashed(self) -> str:
        """As the command line writes it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def option(self) -> Option:
        """What the command line asks of it beside its domain."""
        return self.about if isinstance(self.about, Option) else Option()

    @property
    def metavar(self) -> str:
        """The word for its value in the help."""
        usual = self.name if self.option.place == "positional" else _METAVARS[self.kind]
        return self.option.metavar or (self.about.text if self.sheet else "") or usual

    def help(self) -> str:
        """Its line in the help: what it is, and its default."""
        if self.usual is None or self.usual is False or self.usual == "":
            return self.about.doc
        usual = f"default: {show(self.usual)}"
        return f"{self.about.doc} ({usual})" if self.about.doc else usual


def groups(command: type) -> Iterator[tuple[str, list[Declared]]]:
    """The options of a command in groups with a title, its own first, then those of its bases."""
    for base in command.__mro__:
        if not dataclasses.is_dataclass(base):
            continue
        own = inspect.get_annotations(base)
        title = vars(base).get("title", "")
        listed: list[Declared] = []
        for field in dataclasses.fields(base):
            if field.name not in own:
                continue
            if _SHEET in field.metadata:
                of, named, usual = field.metadata[_SHEET]
                if named and listed:
                    yield title, listed
                    listed = []
                title = named or title
                listed += [_declared(of, each, field.name, usual) for each in dataclasses.fields(of)]
            elif field.name in domains(base):
                listed.append(_declared(base, field))
        if listed:
            yield title, listed


def declared(command: type) -> dict[str, Declared]:
    """The options of a command by name."""
    return {each.name: each for _, listed in groups(command) for each in listed}


def _declared(owner: type, field: Field[Any], of_sheet: str = "", usual: bool = True) -> Declared:
    kinds = kinds_of(owner, field.name)
    kind = next((kind for kind in (bool, Path, int, float) if kind in kinds), str)
    return Declared(
        field.name,
        kind,
        list in kinds,
        domains(owner)[field.name],
        field.default if usual and field.default is not MISSING else None,
        field.default is MISSING and field.default_factory is MISSING,
        of_sheet,
    )
