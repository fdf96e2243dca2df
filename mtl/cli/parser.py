"""The parser of `mtl`, made from the declarations of its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from mtl.cli.declared import Declared, groups
from mtl.cli.errors import BadInput
from mtl.cli.options import COMMANDS
from mtl.suggestions import nearest

# What `mtl submit` says beside its options, which are those of three programs.
_USAGE = {
    "submit": "mtl submit [-h] [--print] {train,compare,search,auto} [OPTIONS OF sbatch ...] -- ARGUMENTS OF mtl ..."
}
_EPILOG = {
    "submit": "Such as: mtl submit search --nodes=4 --time=8:00:00 --account=me -- multidigits --strategy gradnorm"
}


class _Lacking(BadInput):
    """An argument that is required is not on the command line; a file of options may have it."""


class _Parser(argparse.ArgumentParser):
    """A parser whose namespaces have what the command line gives, and nothing else; options are written in full.

    A beginning would name one option today and two tomorrow, and the option of another command would be taken for one
    of this: `mtl compare --search` for its `--searcher`.
    """

    def __init__(self, **told: Any) -> None:
        super().__init__(**told, allow_abbrev=False)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does it, with what may have been meant."""
        if action.choices is not None and value not in action.choices:
            meant = nearest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}: {meant}")

    def error(self, message: str) -> NoReturn:
        kind = _Lacking if "arguments are required" in message else BadInput
        raise kind(f"{message} (`{self.prog} --help` shows the options)")


class _Store(argparse.Action):
    """A list that is given in several pieces grows; a single value is given once.

    Behind `--override`, which batch scripts put before the options that they add, values replace those before it.
    """

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:  # noqa: ARG002
        if hasattr(namespace, self.dest) and option is not None and not hasattr(namespace, "override"):
            if not isinstance(values, list):
                raise argparse.ArgumentError(self, f"it is given twice, the second time with {values}")
            values = [*getattr(namespace, self.dest), *values]
        setattr(namespace, self.dest, values)


def parsed(arguments: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
    """The values that the command line gives, by name, and what it has that is no option.

    What has to be given may be absent where `--config` names a file, which may have it.

    Raises:
        BadInput: a value that an option cannot have, or none where there has to be one.
    """
    try:
        args, unknown = build_parser().parse_known_args(arguments)
    except _Lacking:
        args, unknown = build_parser(required=False).parse_known_args(arguments)
        if getattr(args, "config", None) is None:
            raise
    return {name: value for name, value in vars(args).items() if value is not None}, unknown


def build_parser(*, required: bool = True) -> argparse.ArgumentParser:
    """The parser of `mtl`.

    Args:
        required: whether there are arguments that have to be given; otherwise it does not know them at all.
    """
    from mtl.version import VERSION

    parser = _Parser(
        prog="mtl",
        description="How should the losses of multi-task training be weighted, and how sure are we?",
        epilog="Strategies are named by specs: `famo`, `gradnorm:alpha=0.12`, `uncertainty+mgda+every:n=4`.",
    )
    parser.add_argument("--version", action="version", version=f"mtl {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.about, usage=_USAGE.get(name), epilog=_EPILOG.get(name))
        for title, listed in groups(command):
            group = added.add_argument_group(title) if title else added
            for each in listed:
                if required or not each.required:
                    _add(added if each.option.place == "positional" else group, each)
    return parser


def _add(group: Any, each: Declared) -> None:
    """Add an option to a parser or a group of one. None has a default here: what is not given stays away."""
    place, choices = each.option.place, each.about.choices
    if place == "rest":
        group.add_argument(each.name, nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
        return
    told: dict[str, Any] = {"default": argparse.SUPPRESS, "help": each.help() or None}
    if place == "hidden":
        told["help"] = argparse.SUPPRESS
    if each.kind is bool:
        group.add_argument(each.dashed, action="store_true", **told)
        return
    # The choices of a training setting are checked where the setting is, and only shown here.
    told |= {"action": _Store, "type": each.kind, "choices": each.option.choices or None}
    told["metavar"] = f"{{{','.join(choices)}}}" if choices else each.metavar
    if each.many:
        told["nargs"] = "+"
    elif place == "positional" and not each.required:
        told |= {"nargs": "?", "default": None}  # argparse would look for its own word among the choices
    group.add_argument(each.name if place == "positional" else each.dashed, **told)
