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
LISTS = ("strategies", "benchmarks", "losses", "models", "methods")


ENGINES = ("population", "ray")


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
    _add_search(commands)
    _add_replay(commands)
    _add_report(commands)
    _add_bench(commands)
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


def _where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where searches train")
    group.add_argument(
        "--engine", default="population", choices=ENGINES, help="this process (default), or processes of Ray"
    )
    group.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster (default: one of this machine)")
    group.add_argument("--nodes", type=int, metavar="N", help="of that cluster, to be waited for (default: 1)")
    group.add_argument(
        "--shards", type=int, metavar="N", help="of the members, for Ray (default: one a GPU, or a node)"
    )


ENGINE_OPTIONS = ("address", "nodes", "shards")


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
    parser = commands.add_parser("list", help="what there is: strategies, benchmarks, losses, models, methods")
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
    parser.add_argument("--tune", metavar="METHOD", help="tune every strategy first, such as by pbt, tpe or random")
    parser.add_argument("--budget", type=int, metavar="N", help="trials of each strategy's tuning (default: 16)")
    parser.add_argument("--no-single-task", action="store_true", help="leave out the single-task baselines")
    parser.add_argument("--one-at-a-time", action="store_true", help="train each seed by itself, not as a population")
    _where(parser)
    _shared(parser)
    _training(parser)


def _add_search(commands: Any) -> None:
    parser = commands.add_parser("search", help="search strategies, hyperparameters and schedules with a population")
    parser.add_argument("benchmark", help="a name from `mtl list benchmarks`, or path.py:Class")
    group = parser.add_argument_group("search")
    group.add_argument("--strategy", default="equal", metavar="SPEC", help="whose hyperparameters (default: equal)")
    group.add_argument("--strategies", nargs="+", metavar="SPEC", help="several, of which the search picks")
    group.add_argument("--method", default="pbt", help="a name from `mtl list methods` (default: pbt)")
    group.add_argument("--objective", nargs="+", default=["selection"], metavar="NAME", help=_OBJECTIVE)
    group.add_argument("--search", nargs="+", metavar="NAME=RANGE", help="such as lr=1e-4:1e-2:log optimizer=adam,sgd")
    group.add_argument("--space", type=Path, metavar="FILE", help="YAML of names and ranges; --search overrides it")
    group.add_argument("--members", type=int, metavar="N", help="runs trained side by side (default: 16)")
    group.add_argument("--trials", type=int, metavar="N", help="runs started in all (default: as many as members)")
    group.add_argument("--interval", type=int, metavar="STEPS", help="between decisions (default: about 1/20 of a run)")
    group.add_argument("--quantile", type=float, help="share that is replaced, of pbt and pb2 (default: 0.25)")
    group.add_argument("--burn-in", type=int, metavar="STEPS", help="first steps without exploits, of pbt and pb2")
    group.add_argument("--resample", type=float, help="probability of a value drawn anew, of pbt and pb2 (0.25)")
    about = "shards of --engine ray do not wait for each other, of pbt"
    group.add_argument("--asynchronous", action="store_true", default=None, help=about)
    group.add_argument("--eta", type=float, help="one in so many goes on, of asha, hyperband and bohb (3)")
    group.add_argument("--grid-points", type=int, metavar="N", help="values of each number, of grid (default: 3)")
    _where(parser)
    _shared(parser)
    _training(parser)


_OBJECTIVE = "selection (default), delta_m, TASK/METRIC, or several of them for a Pareto front"


def _add_replay(commands: Any) -> None:
    parser = commands.add_parser("replay", help="train the winner's schedule of a finished search again, from scratch")
    parser.add_argument("directory", type=Path, metavar="RUN", help="the --out of `mtl search`")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--quiet", action="store_true", help="print the result only")


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="tables, figures and report.html of finished runs")
    about = "of one study, or parts to be merged, or what holds them"
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help=about)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the first directory")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser("bench", help="speed, against other libraries in the same process")
    about = "steps: one training step; solvers: weights from a Gramian; population, search: whole runs"
    parser.add_argument("name", help=about)
    about = "of the bench of the search: population against Ray Tune (default), ray against population"
    parser.add_argument("--engine", default="population", choices=ENGINES, help=about)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each candidate (default: the bench's own)")
    parser.add_argument("--quick", action="store_true", help="few cases, one round: whether it works, not how fast")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="such as mlp-10 cnn-3; resnet18-3 for a GPU")
    parser.add_argument("--strategies", nargs="+", metavar="NAME", help="default: all that the bench knows")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of tensor operations (default: 1)")
