"""Options of every command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mtl.cli.errors import BadInput
from mtl.wandb_mode import MODES, usual_mode

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
LISTS = ("strategies", "benchmarks", "losses", "models", "architectures", "methods")

ENGINES = ("population", "ray", "tune")


class _Parser(argparse.ArgumentParser):
    """A parser whose namespaces say in `given` what the command line itself set."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, action in ((None, _Store), ("store", _Store), ("store_true", _StoreTrue)):
            self.register("action", name, action)

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (`{self.prog} --help` shows the options)")


class _Store(argparse.Action):
    """A list that is given in several pieces grows; a single value is given once.

    Behind `--override`, which batch scripts put before the options that they add, values replace those before it.
    """

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:  # noqa: ARG002
        again = _give(namespace, self.dest)
        if again and option is not None and not getattr(namespace, "override", False):
            if not isinstance(values, list):
                raise argparse.ArgumentError(self, f"it is given twice, the second time with {values}")
            values = [*getattr(namespace, self.dest), *values]
        setattr(namespace, self.dest, values)


class _StoreTrue(argparse.Action):
    """A switch."""

    def __init__(self, option_strings: Any, dest: str, default: Any = False, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=default, help=help)

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:  # noqa: ARG002
        _give(namespace, self.dest)
        setattr(namespace, self.dest, True)


def _give(namespace: argparse.Namespace, name: str) -> bool:
    """Note that the command line sets `name`; whether it did before."""
    before: frozenset[str] = getattr(namespace, "given", frozenset())
    namespace.given = before | {name}
    return name in before


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
    _add_submit(commands)
    return parser


def actions_of(parser: argparse.ArgumentParser, command: str) -> dict[str, argparse.Action]:
    """The options and arguments of a command by the name of their value."""
    commands: Mapping[str, argparse.ArgumentParser] = next(
        action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    return {action.dest: action for action in commands[command]._actions if action.dest != "help"}


def _shared(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=Path, metavar="DIR", help="where the run's files go (default: runs/NAME)")
    group.add_argument("--seed", type=int, default=0, help="first seed (default: 0)")
    about = "weights that checkpoints/ keeps: of the best run as best.pt (default), of all, of none"
    group.add_argument("--keep-models", default="best", choices=("none", "best", "all"), help=about)
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    about = "default: what WANDB_MODE says, or offline"
    group.add_argument("--wandb", default=usual_mode(), choices=MODES, help=about)
    group.add_argument("--resume", action="store_true", help="continue what the directory holds, or start")
    group.add_argument("--config", metavar="FILE", help="YAML of options; the command line overrides it")
    group.add_argument("--quiet", action="store_true", help="print the result only")
    group.add_argument("--override", action="store_true", help=argparse.SUPPRESS)


def _where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where searches train")
    group.add_argument(
        "--engine",
        default="population",
        choices=ENGINES,
        help="this process (default), our methods in processes of Ray, or Ray Tune's trials",
    )
    group.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster (default: one of this machine)")
    group.add_argument("--nodes", type=int, metavar="N", help="of that cluster, to be waited for (default: 1)")
    group.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="of the members, for Ray (default: as many as the GPUs hold, at least one each; one a node without)",
    )
    group.add_argument(
        "--gpus-per-shard",
        type=float,
        metavar="SHARE",
        help="of a GPU, for a process: 0.5 trains two shards on each at a time (default: 1)",
    )
    about = "of --engine tune: pbt (default), pb2, asha, hyperband, bohb, median or none"
    group.add_argument("--scheduler", metavar="NAME", help=about)
    about = "of --engine tune: random (default), grid, optuna, bohb, hyperopt or none"
    group.add_argument("--searcher", metavar="NAME", help=about)
    group.add_argument("--gpus-per-trial", type=float, metavar="N", help="of --engine tune (default: 1 if there are)")


#: Options of an engine, and the engines that take them.
ENGINE_OPTIONS = {
    **dict.fromkeys(("address", "nodes", "shards"), ("ray", "tune")),
    "gpus_per_shard": ("ray",),
    **dict.fromkeys(("scheduler", "searcher", "gpus_per_trial"), ("tune",)),
}


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
    group.add_argument("--architecture", help="how the tasks share it, such as mmoe:experts=4")
    group.add_argument("--head-weighting", help="gradient of the heads: weighted or own")
    group.add_argument("--scale", help="scale of the loss weights: sum_to_k or raw")
    group.add_argument("--align-data", help="split whose gradients auto-lambda reads: validation or train")
    group.add_argument("--threads", type=int, help="threads of tensor operations on the CPU")


TRAINING = (
    *("epochs", "steps", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup", "clip"),
    *("l1", "dropout", "noise", "mixup"),
    *(
        "patience",
        "evaluate_every",
        "nan_limit",
        "model",
        "architecture",
        "head_weighting",
        "scale",
        "align_data",
        "threads",
    ),
)


def _add_list(commands: Any) -> None:
    parser = commands.add_parser("list", help=f"what there is: {', '.join(LISTS)}")
    parser.add_argument("what", nargs="?", choices=LISTS, default="strategies")
    parser.add_argument("--grep", metavar="TEXT", help="only what has this text in its name, description, paper, ...")
    parser.add_argument("--cost", action="store_true", help="sort strategies by what a step costs, in place of groups")
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
    parser.add_argument(
        "--reference",
        metavar="SPEC",
        help="what p-values compare with (default: equal if it takes part, or the first strategy)",
    )
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
    group.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="runs started in all (default: --members; 4 times that where a method learns)",
    )
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
    parser.add_argument("--engine", default="population", choices=ENGINES[:2], help=about)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each candidate (default: the bench's own)")
    parser.add_argument("--quick", action="store_true", help="few cases, one round: whether it works, not how fast")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="such as mlp-10 cnn-3; resnet18-3 for a GPU")
    parser.add_argument("--strategies", nargs="+", metavar="NAME", help="default: all that the bench knows")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of tensor operations (default: 1)")


def _add_submit(commands: Any) -> None:
    parser = commands.add_parser(
        "submit",
        help="queue a job of train, compare or search on a SLURM cluster",
        usage="mtl submit [-h] [--print] {train,compare,search} [OPTIONS OF sbatch ...] -- ARGUMENTS OF mtl ...",
        epilog="Such as: mtl submit search --nodes=4 --time=8:00:00 --account=me -- multidigits --strategy gradnorm",
    )
    parser.add_argument("--print", action="store_true", help="print the batch script instead, to be adapted to a site")
    parser.add_argument("kind", choices=("train", "compare", "search"))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
