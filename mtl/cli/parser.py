"""Options of every command, from the command line and from a YAML file under it."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

DEFAULT_STRATEGIES = (
    "equal",
    "static:weights=1/1/3",
    "uncertainty",
    "gradnorm",
    "dwa",
    "rlw",
    "famo",
    "mgda",
    "auto-lambda",
)
LISTS = ("strategies", "benchmarks", "losses", "models")


class BadInput(Exception):
    """The user's input cannot be worked with; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (`{self.prog} --help` shows the options)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `mtl`."""
    from mtl import __version__

    parser = _Parser(
        prog="mtl",
        description="How should the losses of multi-task training be weighted, and how sure are we?",
        epilog="Strategies are named by specs: `famo`, `gradnorm:alpha=0.12`, `uncertainty+mgda+every:n=4`.",
    )
    parser.add_argument("--version", action="version", version=f"mtl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_list(commands)
    _add_train(commands)
    _add_compare(commands)
    _add_report(commands)
    return parser


def merge_config(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; values of `--config FILE` stand under those of the command line."""
    args = parser.parse_args(arguments)
    if getattr(args, "config", None) is None:
        return args
    given = _given(arguments)
    actions = {action.dest: action for action in _actions(parser, args.command)}
    for key, value in _read_config(Path(args.config)).items():
        name = str(key).replace("-", "_")
        if name not in actions or name == "config":
            near = difflib.get_close_matches(name, actions, n=2)
            raise BadInput(
                f"{args.config}: unknown setting {key!r}" + (f": did you mean {', '.join(near)}?" if near else "")
            )
        if name not in given:
            setattr(args, name, _converted(actions[name], value, f"{args.config}: {key}"))
    return args


def _given(arguments: Sequence[str] | None) -> set[str]:
    """Names of the options that the command line itself sets: those left when there are no defaults."""
    bare = build_parser()
    for command in _commands(bare):
        for action in _actions(bare, command):
            action.default = argparse.SUPPRESS
    return set(vars(bare.parse_args(arguments)))


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _actions(parser: argparse.ArgumentParser, command: str) -> list[argparse.Action]:
    return [action for action in _commands(parser)[command]._actions if action.dest != "help"]


def _converted(action: argparse.Action, value: Any, where: str) -> Any:
    """A YAML value as the command line would have given it."""
    if value is None:
        return action.default
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise BadInput(f"{where}={value!r} must be true or false")
        return value
    if action.nargs == "+":
        return [_converted_one(action, item, where) for item in (value if isinstance(value, list) else [value])]
    return _converted_one(action, value, where)


def _converted_one(action: argparse.Action, value: Any, where: str) -> Any:
    if isinstance(value, dict | list):
        raise BadInput(f"{where}={value!r} must be a single value")
    kind = action.type if callable(action.type) else str
    try:
        converted = kind(str(value))
    except ValueError:
        raise BadInput(f"{where}={value!r} is not a valid {getattr(kind, '__name__', 'value')}") from None
    if action.choices is not None and converted not in action.choices:
        raise BadInput(f"{where}={value!r} must be one of {', '.join(map(str, action.choices))}")
    return converted


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadInput(f"--config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise BadInput(f"--config {path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise BadInput(f"--config {path}: a mapping of options to values is wanted")
    return content


def _shared(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=Path, metavar="DIR", help="where the run's files go (default: runs/NAME)")
    group.add_argument("--seed", type=int, default=0, help="first seed (default: 0)")
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    group.add_argument("--wandb", default="offline", choices=("offline", "online", "disabled"), help="default: offline")
    group.add_argument("--resume", action="store_true", help="continue what the directory holds, or start")
    group.add_argument("--config", metavar="FILE", help="YAML of options; the command line overrides it")
    group.add_argument("--quiet", action="store_true", help="print the result only")


def _training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training (defaults: the benchmark's recipe)")
    group.add_argument("--epochs", type=int)
    group.add_argument("--steps", type=int, help="optimizer steps, in place of epochs")
    group.add_argument("--batch-size", type=int)
    group.add_argument("--optimizer", help="adam, adamw, sgd, rmsprop or adagrad")
    group.add_argument("--lr", type=float)
    group.add_argument("--momentum", type=float, help="of sgd")
    group.add_argument("--weight-decay", type=float)
    group.add_argument("--schedule", help="constant, cosine or linear")
    group.add_argument("--warmup", type=int, help="steps over which the learning rate rises")
    group.add_argument("--clip", type=float, help="largest norm of the gradient")
    group.add_argument("--l1", type=float, help="weight of the sum of absolute parameters")
    group.add_argument("--dropout", type=float, help="share of the trunk's units dropped in training")
    group.add_argument("--noise", type=float, help="standard deviation of noise on the inputs")
    group.add_argument("--mixup", type=float, help="a of Beta(a, a), how far examples are mixed with others")
    group.add_argument("--patience", type=int, help="evaluations without improvement before a run stops")
    group.add_argument("--evaluate-every", type=int, help="epochs between evaluations")
    group.add_argument("--nan-limit", type=int, help="non-finite steps after which a run counts as diverged")
    group.add_argument("--model", help="trunk, such as mlp:width=64,depth=3")
    group.add_argument("--head-weighting", help="gradient of the heads: weighted or own")
    group.add_argument("--scale", help="scale of the loss weights: sum_to_k or raw")
    group.add_argument("--align-data", help="split whose gradients auto-lambda reads: validation or train")
    group.add_argument("--threads", type=int, help="threads of tensor operations on the CPU")


TRAINING = (
    *("epochs", "steps", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup", "clip"),
    *("l1", "dropout", "noise", "mixup"),
    *("patience", "evaluate_every", "nan_limit", "model", "head_weighting", "scale", "align_data", "threads"),
)


def _add_list(commands: Any) -> None:
    parser = commands.add_parser("list", help="what there is: strategies, benchmarks, losses, models")
    parser.add_argument("what", nargs="?", choices=LISTS, default="strategies")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train one strategy on a benchmark")
    parser.add_argument("benchmark", help="a name from `mtl list benchmarks`, or path.py:Class")
    parser.add_argument("--strategy", default="equal", metavar="SPEC", help="default: equal")
    _shared(parser)
    _training(parser)


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser("compare", help="compare strategies over seeds, against single-task baselines")
    parser.add_argument("benchmark", help="a name from `mtl list benchmarks`, or path.py:Class")
    parser.add_argument("--strategies", nargs="+", metavar="SPEC", help="default: one of each kind")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each strategy (default: 3)")
    parser.add_argument("--reference", metavar="SPEC", help="what p-values compare with (default: the first strategy)")
    parser.add_argument("--no-single-task", action="store_true", help="leave out the single-task baselines")
    _shared(parser)
    _training(parser)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="tables, figures and report.html of finished runs")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="of one study, or parts to be merged, or what holds them")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the first directory")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
