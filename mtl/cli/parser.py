"""The parser of `mtl`, made from the declarations of its options."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from mtl.cli.declared import Declared, groups
from mtl.cli.errors import BadInput
from mtl.cli.options import COMMANDS
from mtl.suggestions import nearest

# What `mtl submit` says beside its options, which are those of three programs.
_USAGE = {"submit": "mtl submit [-h] [--print] {train,compare,search} [OPTIONS OF sbatch ...] -- ARGUMENTS OF mtl ..."}
_EPILOG = {
    "submit": "Such as: mtl submit search --nodes=4 --time=8:00:00 --account=me -- multidigits --strategy gradnorm"
}


class _Parser(argparse.ArgumentParser):
    """A parser whose namespaces have what the command line gives, and nothing else."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does it, with what may have been meant."""
        if action.choices is not None and value not in action.choices:
            meant = nearest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}: {meant}")

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (`{self.prog} --help` shows the options)")


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


def build_parser() -> argparse.ArgumentParser:
    """The parser of `mtl`."""
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
